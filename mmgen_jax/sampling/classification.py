"""Zero-shot classification with a generative model (Diffusion Classifier, Li et al. 2023), from any modalities.

The class of an image is the one under which the model predicts its noise best. `denoising` says with which weights the
squared errors become log-likelihoods: summed over times in [low, high] they are, up to what all classes share,

    integral over t from low to high of (1 - t) / t  E |v(x_t, t, class) - (e - x0)|^2 dt
        = E log p(x_high | class) - E log p(x_low | class).

At high = 1, where x is noise under every class, the first term is the same for all. So with exact velocities and enough
draws the probabilities are those of Bayes' rule for classes that are equally frequent: for the clean image if low is 0,
and otherwise for the image seen through noise at t = low, in the mean over that noise of its log-likelihood. A trained
network tells classes apart by shapes, which show through noise; its errors near t = 0, with their large weights, say
little about the class.

The observed modalities of a sample are noisy at a common time, and the others are ignored. All classes see the same
noise at the same times, so that what they have in common cancels in their differences. Draws come in rounds, and in
each of them times are spread evenly. After a round a class is left out whose mean difference to the best one is beyond
its standard error, so that most evaluations are spent on what is hard to tell.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.models.architectures import Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.sampling import requests
from mmgen_jax.sampling.denoising import RANGE, times_within, weighted_errors
from mmgen_jax.sampling.probing import over_rows, velocity_of
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import POSITIVE, Rule, each, integer, number, setting

_ROUNDS = Rule(
    lambda v: each(integer(1)).allows(v) and v != () and v[0] > 1,
    "a tuple of integers of at least 1, the first above 1",
)
_TINY = np.finfo(np.float64).tiny  # so that the error of the best, which is 0, times infinity is a number
Errors = Callable[["Draws"], np.ndarray]


@dataclass(frozen=True)
class Effort:
    """How classes are told apart: the settings in `classify` and the arguments of `MMGen.classify`."""

    rounds: tuple[int, ...] = setting((4, 4, 8, 16), _ROUNDS, "draws of noise in each round, for each class left")
    beyond: float = setting(4.0, number(0), "standard errors by which a class is worse than the best to be left out")
    times: tuple[float, float] = setting((0.5, 1.0), RANGE, "range of the times t of the noise")
    temperature: float = setting(1.0, POSITIVE, "what log-likelihood ratios are divided by, as calibration finds it")
    seed: int = setting(0, integer(0), "of the noise")
    batch: int = setting(32, integer(1), "evaluations of the network at once")


@dataclass(frozen=True)
class Classified:
    """What the classes of n samples are.

    Attributes:
      class_names: names of the C classes.
      log_ratio: float64 [n, C], log-likelihood in nats under each class minus that under the best one.
      error: float64 [n, C], standard errors of `log_ratio`.
      draws: int [n, C], evaluations of the network for each class.
      temperature: what log-ratios are divided by, see `fit_temperature`.
    """

    class_names: tuple[str, ...]
    log_ratio: np.ndarray
    error: np.ndarray
    draws: np.ndarray
    temperature: float = 1.0

    @property
    def probabilities(self) -> np.ndarray:
        """Probability [n, C] of each class, for classes that are equally frequent."""
        return special.softmax(self.log_ratio / self.temperature, axis=1)

    @property
    def evaluations(self) -> np.ndarray:
        """Number of evaluations of the network for each sample, int [n]."""
        return self.draws.sum(1)

    @property
    def best(self) -> np.ndarray:
        """Index of the likeliest class of each sample, int [n]."""
        return self.log_ratio.argmax(1)

    def at(self, temperature: float) -> Classified:
        """The same with another temperature."""
        return dataclasses.replace(self, temperature=float(temperature))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Draws:
    """Evaluations of the network, one a row.

    Attributes:
      sample: int32 [R], number of the sample.
      choice: int32 [R], index of the class.
      number: int32 [R], number of the draw of this sample, from which its noise follows, the same for all classes.
      low: float32 [R], least time of the draw.
      width: float32 [R], its time is at most low + width.
    """

    sample: AnyArray
    choice: AnyArray
    number: AnyArray
    low: AnyArray
    width: AnyArray


def classify(errors: Errors, n: int, class_names: Sequence[str], effort: Effort) -> Classified:
    """Classifies n samples by their errors: draws -> weighted errors [R], minus log-likelihoods up to a constant."""
    low, high = effort.times
    count, rounds = len(class_names), effort.rounds
    found = np.full((n, count, sum(rounds)), np.nan)
    left, first = np.ones((n, count), bool), 0
    for size in rounds:
        sample, choice = np.nonzero(left & (left.sum(1, keepdims=True) > 1))
        if not len(sample):
            break
        within = np.tile(np.arange(size), len(sample))
        rows = Draws(
            np.repeat(sample, size).astype(np.int32),
            np.repeat(choice, size).astype(np.int32),
            (np.repeat(sample, size) * sum(rounds) + first + within).astype(np.int32),
            (low + (high - low) * within / size).astype(np.float32),
            np.full(len(within), (high - low) / size, np.float32),
        )
        found[sample, choice, first : first + size] = (high - low) * errors(rows).reshape(-1, size)
        first += size
        ratio, error = _compared(found[..., :first], left)
        left &= ~(-ratio > effort.beyond * np.maximum(error, _TINY))
    ratio, error = _compared(found[..., :first], left)
    return Classified(tuple(class_names), ratio, error, np.isfinite(found).sum(-1), effort.temperature)


def _compared(errors: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-ratios [n, C] to the best class of those that are left, and their standard errors.

    `errors` [n, C, D] has NaN for classes that were left out before; they are compared on the draws that they had.
    """
    best = np.where(left, np.nanmean(errors, -1), np.inf).argmin(1)
    difference = errors - errors[np.arange(len(errors)), best][:, None]
    draws = np.isfinite(difference).sum(-1)
    return -np.nanmean(difference, -1), np.nanstd(difference, -1, ddof=1) / np.sqrt(draws)


def fit_temperature(log_ratio: np.ndarray, class_id: np.ndarray) -> float:
    """The temperature with which probabilities of log_ratio [n, C] fit the true classes [n] best (Guo et al. 2017).

    The one number minimises the mean of -log p(true class); it is between 1e-3 and 1e6.
    """
    rows = np.arange(len(class_id))

    def loss(exponent: float) -> float:
        return -special.log_softmax(log_ratio / np.exp(exponent), axis=1)[rows, class_id].mean()

    return float(np.exp(optimize.minimize_scalar(loss, bounds=np.log([1e-3, 1e6]), method="bounded").x))


def calibration_error(probabilities: np.ndarray, class_id: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error of probabilities [n, C] for classes [n], with `bins` equal ranges of confidence."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == class_id
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(bin_of, confidence - right, bins)  # n times the share of a bin times its gap
    return float(np.abs(gaps).sum() / len(right))


class ZeroShot:
    """Classifies samples with a model; compiles once for each set of modalities and batch size."""

    def __init__(self, sampler: Sampler):
        self._sampler = sampler
        self._errors = jax.jit(functools.partial(draw_errors, sampler.layout))

    def __call__(
        self,
        params: Params,
        latents: Mapping[str, np.ndarray],
        classes: np.ndarray,
        effort: Effort,
        progress: Callable[[int], object] | None = None,
    ) -> Classified:
        """Classifies clean latents [n, h, w, C] of the observed modalities; `classes` int [C] are those allowed.

        Raises UsageError if there is nothing to choose from, or if the model's path is not the linear one.
        """
        a = self._sampler.architecture
        if len(set(classes.tolist())) < max(2, len(classes)):
            raise UsageError(f"classes has {len(classes)} entries; allowed: at least two classes, each of them once")
        if a.path != "linear":
            raise UsageError(f"the model's path is {a.path}; classification needs the linear one")
        params, key = self._sampler.place(params), keys.of_seed(effort.seed, "classification")
        n, most = len(next(iter(latents.values()))), sum(effort.rounds)
        progress = progress or Progress("classify", n * len(classes) * most, "evaluations at most")

        def errors(draws: Draws) -> np.ndarray:
            rows = (Latents((m, z[draws.sample]) for m, z in a.ordered(latents).items()), classes[draws.choice], draws)
            program = functools.partial(self._errors, params, key)
            return over_rows(lambda part: program(*part), rows, effort.batch, self._sampler.layout, progress)

        return classify(errors, n, [a.facts.class_names[i] for i in classes], effort)


def draw_errors(
    layout: Layout, params: Params, key: jax.Array, x0: Latents, class_id: jax.Array, draws: Draws
) -> jax.Array:
    """Weighted error [R] of each draw, of clean latents x0 [R, h, w, C] under class_id [R]."""
    shapes = layout.architecture.sample_shapes
    numbers = jnp.asarray(draws.number)
    noise, t = requests.noise(key, numbers, shapes), times_within(key, numbers, draws.low, draws.width)
    errors = weighted_errors(velocity_of(layout, params, class_id, noise, {}, 0.0), x0, noise, t)
    return sum((e.sum((1, 2)) for e in errors.values()), jnp.zeros(len(t)))
