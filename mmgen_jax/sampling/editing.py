"""What a trained model makes of samples that are there: the noise that they come from, and noise to go on with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import jax
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.models.architectures import Params
from mmgen_jax.sampling import raw, requests
from mmgen_jax.sampling.inversion import Inversion, Inversions
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.sampling.understanding import Understanding
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.rules import checked, integer, require


class Editing(Understanding):
    """A trained model as an editor of samples; `MMGen` is one."""

    def __init__(self, sampler: Sampler, params: Params):
        super().__init__(sampler, params)
        self._inversions = Inversions(sampler)
        self._noise = jax.jit(functools.partial(requests.noise, shapes=self.architecture.sample_shapes))

    def noise(self, seed: int = 0, n: int | np.integer | Sequence[int] | AnyArray = 1) -> dict[str, np.ndarray]:
        """The noise that `generate` draws of a seed: latents float32 [n, h, w, C] of all modalities.

        Args:
          seed: the seed.
          n: how many samples, or their numbers, as for `generate`.

        Raises:
          UsageError: an argument is not allowed.
        """
        chosen, numbers = cast(int, raw.plain(seed)), raw.sample_numbers(n)
        require("seed", chosen, integer(0))
        drawn = self._noise(keys.of_seed(chosen, "sample"), numbers.astype(np.int32))
        return {m: np.asarray(z) for m, z in drawn.items()}

    def invert(
        self,
        values: Mapping[str, object],
        given: Mapping[str, object] | None = None,
        class_id: int | str | Sequence[int | str] | AnyArray | None = None,
        steps: int = Inversion.steps,
        given_time: float = Inversion.given_time,
        seed: int = Inversion.seed,
        batch: int = Inversion.batch,
        progress: Callable[[int], object] | None = None,
    ) -> dict[str, np.ndarray]:
        """The noise from which `generate` makes these values; see `sampling.inversion`.

        Modalities in neither are ignored, which a model must have been trained for.

        Args:
          values: modality -> a file or array (see `modalities.modality`), of n samples or of one.
          given: the same of other modalities.
          class_id: index or name of the class that they are of, one for all samples or one for each; None means none.
          steps: number of midpoint steps of the flow.
          given_time: time at which given modalities are held.
          seed: seed of the noise of what is given and ignored.
          batch: number of samples at once.
          progress: is told how many samples are done; a meter on stderr if None.

        Returns:
          latents float32 [n, h, w, C] of all modalities, for `generate(noise=...)` with the same `given`: of values
          what the flow leads to, of all others the noise that they were held with.

        Raises:
          UsageError: an argument is not allowed.
        """
        plain = {"steps": steps, "given_time": given_time, "seed": seed, "batch": batch}
        how = checked(Inversion, {name: raw.plain(value) for name, value in plain.items()})
        known = self._known(values, {} if given is None else given, class_id)
        return self._inversions(self._params, known, how, progress)
