"""Pointwise mutual information between modalities, position by position.

The information that y holds on x is log p(x | y) - log p(x). By `denoising` it is an integral of what y takes off the
squared error (Kong et al. 2023, 2024):

    i(x; y) = integral over t of (1 - t) / t  E (|v(x_t, t) - u|^2 - |v(x_t, t | y) - u|^2) dt,   u = e - x,

and as squared errors are sums over positions, so is the information: a map shows where it lies. Over times from `low`
to 1 it is the information on x seen through noise at t = low, in the mean over that noise: finite also between
modalities of which one determines the other, on whose clean latents it would be infinite.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.models.architectures import Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.sampling import requests
from mmgen_jax.sampling.denoising import RANGE, times_within, weighted_errors
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.sampling.probing import Known, over_rows, velocity_of
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.show import pictures
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import integer, number, setting


@dataclass(frozen=True)
class Averaging:
    """How information is computed: the arguments of `MMGen.information`."""

    draws: int = setting(32, integer(2), "of noise, each with two evaluations")
    times: tuple[float, float] = setting((0.1, 1.0), RANGE, "range of the times t of the noise")
    given_time: float = setting(0.005, number(0, 1), "t at which given modalities are held")
    seed: int = setting(0, integer(0), "of the noise")
    batch: int = setting(32, integer(1), "pairs of evaluations at once")


@dataclass(frozen=True)
class Information:
    """What is known of n samples from what is given, in nats.

    Attributes:
      maps: modality -> float32 [n, h, w], its information at each position of the latents.
      error: float64 [n], standard error of `nats`.
    """

    maps: dict[str, np.ndarray]
    error: np.ndarray

    @property
    def nats(self) -> np.ndarray:
        """log p(wanted | given) - log p(wanted), [n]."""
        return np.sum([x.sum((1, 2), dtype=np.float64) for x in self.maps.values()], axis=0)

    def pictures(self) -> dict[str, np.ndarray]:
        """The maps as colours uint8 [n, h, w, 3], black for none and white for the most that any position has."""
        most = max(float(x.max()) for x in self.maps.values())
        return {m: pictures.heat(x / max(most, 1e-9)) for m, x in self.maps.items()}


def gain(given: VelocityFn, alone: VelocityFn, x0: Mapping[str, AnyArray], noise: Latents, t: jax.Array) -> Latents:
    """What a condition takes off the weighted errors [B, h, w] at t [B]; its mean over noise and t is information."""
    with_it, without = (weighted_errors(velocity_fn, x0, noise, t) for velocity_fn in (given, alone))
    return Latents((m, without[m] - with_it[m]) for m in x0)


class Maps:
    """Information under a model; compiles once for each split into wanted and given, and batch."""

    def __init__(self, sampler: Sampler):
        self._sampler = sampler
        self._program = jax.jit(functools.partial(_row_gain, sampler.layout))

    def __call__(
        self, params: Params, known: Known, how: Averaging, progress: Callable[[int], object] | None = None
    ) -> Information:
        """Information of known.given on known.wanted. Raises UsageError for a path other than the linear one."""
        if (path := self._sampler.architecture.path) != "linear":
            raise UsageError(f"the model's path is {path}; information needs the linear one")
        params, key = self._sampler.place(params), keys.of_seed(how.seed, "information")
        n, draws, (low, high) = len(known), how.draws, how.times
        progress = progress or Progress("information", n * draws, "pairs of evaluations")
        edges = np.tile((low + (high - low) * np.arange(draws) / draws).astype(np.float32), n)
        width = np.full(n * draws, (high - low) / draws, np.float32)
        rows = known.repeated(draws), np.arange(n * draws, dtype=np.int32), edges, width
        program = functools.partial(self._program, params, key, how.given_time)
        found = over_rows(lambda part: program(*part), rows, how.batch, self._sampler.layout, progress)
        each_draw = {m: (high - low) * x.reshape(n, draws, *x.shape[1:]) for m, x in found.items()}
        totals = np.sum([x.sum((2, 3), dtype=np.float64) for x in each_draw.values()], axis=0)
        error = totals.std(1, ddof=1) / math.sqrt(draws)
        return Information({m: x.mean(1) for m, x in each_draw.items()}, error)


def _row_gain(
    layout: Layout,
    params: Params,
    key: jax.Array,
    time: jax.Array,
    known: Known,
    numbers: jax.Array,
    low: jax.Array,
    width: jax.Array,
) -> Latents:
    shapes = layout.architecture.sample_shapes
    noise, t = requests.noise(key, numbers, shapes), times_within(key, numbers, low, width)
    bound = functools.partial(velocity_of, layout, params, known.class_id, noise)
    return gain(bound(known.given, time), bound({}, time), known.wanted, noise, t)
