"""Draws what evaluation looks at: predictions of the other modalities from rgb, and samples of classes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mmgen_jax import settings
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.sampling.draws import combined
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.sampler import Arrays, Sampler
from mmgen_jax.system.console import Progress


def to_values(arrays: Mapping[str, np.ndarray], facts: Facts) -> Arrays:
    """Turns arrays [N, H, W, C] in [-1, 1] of some modalities into values; see `modalities.modality`."""
    return {m: MODALITIES[m].value(np.asarray(x), facts) for m, x in arrays.items()}


@dataclass(frozen=True)
class Runner:
    """A model and how evaluation samples it. Scene i depends on the seed and i, not on the size of the batches.

    Attributes:
      sampler: the sampler of the model.
      params: the model's weights.
      understanding: options for predictions from rgb, with the number of draws that are combined for each scene; the
        seed in them is not used.
      generation: options for samples of classes; the seed in them is not used.
    """

    sampler: Sampler
    params: Params
    understanding: Options
    generation: Options

    @property
    def draws(self) -> int:
        """Number of predictions that are combined for each scene."""
        return self.understanding.draws

    @classmethod
    def from_settings(cls, chosen: settings.Settings, architecture: Architecture, params: Params) -> Runner:
        """Makes a runner that samples as the settings in `sample` and `evaluate` say, on all devices."""
        sampler = Sampler(architecture)
        return cls.of_sampler(chosen, sampler, sampler.place(params))

    @classmethod
    def of_sampler(cls, chosen: settings.Settings, sampler: Sampler, params: Params) -> Runner:
        """Makes a runner as `from_settings` does, of parameters on the devices of a sampler."""
        e = chosen.evaluate
        generation = dataclasses.replace(chosen.sample.options().plain(), batch=e.batch)
        own = {name: getattr(e, name) for name in ("solver", "steps", "temperature", "draws")}
        understanding = dataclasses.replace(generation, **own, shift=1.0)
        return cls(sampler, params, understanding, generation)

    def rest_from_rgb(
        self,
        rgb: np.ndarray,
        seed: int,
        stream: str = "understanding",
        *,
        first: int = 0,
        progress: Progress | None = None,
    ) -> Arrays:
        """Predicts arrays [N, H, W, C] of all modalities except rgb from rgb uint8 [N, H, W, 3], without a class.

        Several draws are combined, see `sampling.draws`. `first` is the number of the first scene; `progress` is told
        of every draw.
        """
        return self.predict({"rgb": to_array(rgb)}, "", seed, stream, first=first, progress=progress)

    def predict(
        self,
        given: Mapping[str, np.ndarray],
        wanted: str,
        seed: int,
        stream: str,
        *,
        first: int = 0,
        progress: Progress | None = None,
    ) -> Arrays:
        """Predicts arrays [N, H, W, C] of what is wanted from given arrays [N, H, W, C] in [-1, 1], without a class.

        `wanted` is as the setting `sample.wanted`: what is made, while all else is ignored; "" = all the rest.
        """
        facts = self.sampler.architecture.facts
        numbers = np.arange(first, first + len(next(iter(given.values()))))
        out = self.drawn(given, wanted, seed, stream, numbers, progress)
        if self.draws == 1:
            return out
        together = combined(to_values(out, facts), self.draws, facts)
        return {m: MODALITIES[m].array(x, facts) for m, x in together.values.items()}

    def drawn(
        self,
        given: Mapping[str, np.ndarray],
        wanted: str,
        seed: int,
        stream: str,
        numbers: np.ndarray,
        progress: Callable[[int], object] | None = None,
    ) -> Arrays:
        """All draws [N K, H, W, C] of which `predict` makes its predictions, those of one scene next to each other.

        `numbers` int [N] are those of the scenes.
        """
        classes = np.full(len(numbers), self.sampler.architecture.null_class)
        options = dataclasses.replace(self.understanding, seed=seed, wanted=wanted)
        return self.sampler(self.params, classes, given, options, numbers=numbers, progress=progress, stream=stream)

    def from_class(
        self, class_id: np.ndarray, seed: int, *, first: int = 0, progress: Progress | None = None
    ) -> Arrays:
        """Samples arrays [N, H, W, C] of all modalities jointly, for class_id int [N]; the first has number `first`."""
        options, numbers = dataclasses.replace(self.generation, seed=seed), np.arange(first, first + len(class_id))
        return self.sampler(self.params, class_id, {}, options, numbers=numbers, progress=progress, stream="generation")
