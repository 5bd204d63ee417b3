"""What a trained model says of samples that are known: their classes, their likelihood, what one tells of another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Params
from mmgen_jax.sampling import raw
from mmgen_jax.sampling.classification import Classified, Effort, ZeroShot
from mmgen_jax.sampling.information import Averaging, Information, Maps
from mmgen_jax.sampling.likelihood import Densities, Integration, LogLikelihood
from mmgen_jax.sampling.probing import Known
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import checked


class Understanding:
    """A trained model as a judge of samples; `MMGen` is one."""

    def __init__(self, sampler: Sampler, params: Params):
        self.architecture, self._sampler, self._params = sampler.architecture, sampler, sampler.place(params)
        self._zero_shot, self._densities, self._maps = ZeroShot(sampler), Densities(sampler), Maps(sampler)

    def classify(
        self,
        given: Mapping[str, object],
        classes: Sequence[int | str] | None = None,
        rounds: Sequence[int] = Effort.rounds,
        beyond: float = Effort.beyond,
        times: tuple[float, float] = Effort.times,
        temperature: float = Effort.temperature,
        seed: int = 0,
        batch: int = Effort.batch,
        progress: Callable[[int], object] | None = None,
    ) -> Classified:
        """Tells the classes of n samples from any of their modalities; see `sampling.classification`.

        Args:
          given: modality -> a file or array (see `modalities.modality`), of n samples or of one; what is not given is
            ignored, which a model must have been trained for.
          classes: indices or names of the classes to choose from; None means all.
          rounds: draws of noise in each round, for each class that is left.
          beyond: number of standard errors by which a class must be worse than the best to be left out.
          times: range (low, high) of the times t of the noise.
          temperature: what log-likelihood ratios are divided by, as `classification.fit_temperature` finds it.
          seed: seed of the noise and its times.
          batch: number of evaluations of the network at once.
          progress: is told how many evaluations are done; a meter on stderr if None.

        Returns:
          `Classified`, with `probabilities` [n, C], `evaluations` [n] of the network and `best` [n].

        Raises:
          UsageError: an argument is not allowed.
        """
        values = {"rounds": rounds, "beyond": beyond, "times": times, "temperature": temperature}
        effort = checked(Effort, _plain(values | {"seed": seed, "batch": batch}))
        classes = self.architecture.facts.class_names if classes is None else classes
        chosen = raw.classes(classes, len(classes), self.architecture)
        return self._zero_shot(self._params, self._together("given", given), chosen, effort, progress)

    def log_likelihood(
        self,
        values: Mapping[str, object],
        given: Mapping[str, object] | None = None,
        class_id: int | str | Sequence[int | str] | AnyArray | None = None,
        steps: int = Integration.steps,
        draws: int = Integration.draws,
        given_time: float = Integration.given_time,
        seed: int = Integration.seed,
        batch: int = Integration.batch,
        progress: Callable[[int], object] | None = None,
    ) -> LogLikelihood:
        """log p(values | given, class) of n samples in the space of latents; see `sampling.likelihood`.

        Modalities in neither are ignored, which a model must have been trained for. The difference of two calls with
        one seed, with and without `given`, is pointwise mutual information.

        Args:
          values: modality -> a file or array (see `modalities.modality`), of n samples or of one.
          given: the same of other modalities.
          class_id: index or name of a class, one for all samples or one for each; None means no class.
          steps: number of midpoint steps of the flow.
          draws: number of random signs for the divergence.
          given_time: time at which given modalities are held.
          seed: seed of signs and noise.
          batch: number of flows at once.
          progress: is told how many flows are done; a meter on stderr if None.

        Returns:
          `LogLikelihood`, with `nats` [n], their `error` [n] and `bits_per_dimension` [n].

        Raises:
          UsageError: an argument is not allowed.
        """
        plain = {"steps": steps, "draws": draws, "given_time": given_time, "seed": seed, "batch": batch}
        how, known = checked(Integration, _plain(plain)), self._known(values, {} if given is None else given, class_id)
        return self._densities(self._params, known, how, progress)

    def information(
        self,
        values: Mapping[str, object],
        given: Mapping[str, object],
        draws: int = Averaging.draws,
        times: tuple[float, float] = Averaging.times,
        given_time: float = Averaging.given_time,
        seed: int = Averaging.seed,
        batch: int = Averaging.batch,
        progress: Callable[[int], object] | None = None,
    ) -> Information:
        """What given modalities tell of others, log p(values | given) / p(values), as maps; see `sampling.information`.

        Args:
          values: modality -> a file or array (see `modalities.modality`), of n samples or of one.
          given: modality -> a file or array, like `values`.
          draws: number of draws of noise.
          times: range (low, high) of its times; the information is on values seen through noise at t = low.
          given_time: time at which given modalities are held.
          seed: seed of the noise.
          batch: number of pairs of evaluations at once.
          progress: is told how many pairs of evaluations are done; a meter on stderr if None.

        Returns:
          `Information`, with `maps` of each modality [n, h, w], `nats` [n] and their `error` [n].

        Raises:
          UsageError: an argument is not allowed.
        """
        plain = {"draws": draws, "times": times, "given_time": given_time, "seed": seed, "batch": batch}
        how = checked(Averaging, _plain(plain))
        raw.mapping("given", given, self.architecture.modalities)
        return self._maps(self._params, self._known(values, given, None), how, progress)

    def _known(self, values: object, given: object, class_id: Any) -> Known:
        """Samples whose values and conditions are known. Raises UsageError."""
        named = raw.mapping("values", values, self.architecture.modalities)
        nothing = isinstance(given, Mapping) and not given
        others = {} if nothing else raw.mapping("given", given, self.architecture.modalities)
        for m in others:
            if m in named:
                raise UsageError(f"{m} is in values and in given; allowed: one of both")
        found = self._together("values and given", {**named, **others})
        n = len(next(iter(found.values())))
        wanted, shown = ({m: z for m, z in found.items() if m in names} for names in (named, others))
        return Known(
            self.architecture.ordered(wanted),
            self.architecture.ordered(shown),
            raw.classes(class_id, n, self.architecture),
        )

    def _together(self, name: str, values: object) -> dict[str, np.ndarray]:
        """Latents [n, h, w, C] of some modalities of n samples or of one each. Raises UsageError."""
        found = {m: np.asarray(z) for m, z in self.encoded(name, values).items()}
        n = max(map(len, found.values()))
        for m, z in found.items():
            if len(z) not in (1, n):
                raise UsageError(f"{name} has {len(z)} of {m}; allowed: 1, or {n} as of others")
        return {m: np.broadcast_to(z, (n, *z.shape[1:])) for m, z in found.items()}

    def encoded(self, name: str, values: object) -> Latents:
        """Latents of values of some modalities, which errors call `name`. Raises UsageError."""
        a = self.architecture
        named = raw.mapping(name, values, a.modalities)
        read = {m: MODALITIES[m].condition(value, a.image_size, a.facts) for m, value in named.items()}
        return self._sampler.encode({m: MODALITIES[m].array(x, a.facts) for m, x in read.items()})


def _plain(values: Mapping[str, object]) -> dict[str, Any]:
    return {name: raw.plain(value) for name, value in values.items()}
