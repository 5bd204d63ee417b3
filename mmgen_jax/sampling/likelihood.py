"""Log-likelihood by the probability flow: log p(wanted | given), with all else ignored, in the space of latents.

The flow dx/dt = v(x, t) carries the density of the data at t = 0 to the standard normal density at t = 1, and along it
d log p / dt = -div v (Chen et al. 2018, Song et al. 2021). So with x(1) at the end of the flow that starts at the data,

    log p(x0) = log N(x(1); 0, I) + integral over t from 0 to 1 of div v(x(t), t) dt.

The divergence is estimated as e . (J e) with random signs e (Hutchinson 1990), whose mean it is. The log-ratio of a
likelihood with a condition and of one without it, from the same seed, is their pointwise mutual information.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.models.architectures import Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.sampling import requests
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.sampling.inversion import followed, times_from_data
from mmgen_jax.sampling.probing import Known, over_rows, velocity_of
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import NotFinite
from mmgen_jax.system.rules import integer, number, setting

_DENSITY = "log density"  # its integral is followed like one more modality


@dataclass(frozen=True)
class Integration:
    """How a likelihood is computed: the arguments of `MMGen.log_likelihood`."""

    steps: int = setting(50, integer(1), "of the flow, each with two evaluations and their gradients")
    draws: int = setting(4, integer(1), "random signs for the divergence, each with a flow of its own")
    given_time: float = setting(0.005, number(0, 1), "t at which given modalities are held")
    seed: int = setting(0, integer(0), "of the signs, and of the noise of what is given and ignored")
    batch: int = setting(32, integer(1), "flows at once")


@dataclass(frozen=True)
class LogLikelihood:
    """log p(wanted | given) of n samples.

    Attributes:
      nats: float64 [n], the mean over draws.
      error: float64 [n], its standard error; NaN with one draw.
      dimensions: number of latent numbers of what is wanted.
    """

    nats: np.ndarray
    error: np.ndarray
    dimensions: int

    @property
    def bits_per_dimension(self) -> np.ndarray:
        """-log2 p over the number of dimensions, [n]: what a code for the latents would take, up to their precision."""
        return -self.nats / (math.log(2) * self.dimensions)


def log_density(velocity_fn: VelocityFn, x0: Mapping[str, AnyArray], probe: Latents, times: jax.Array) -> jax.Array:
    """Estimates log p(x0) in nats, float32 [B]; works under jit.

    Args:
      velocity_fn: (x, t [B, M]) -> velocities of the modalities of x0; samples do not depend on each other.
      x0: clean latents [B, h, w, C].
      probe: random signs of the same shapes. The mean over all unit vectors times sqrt(D), in place of signs, is exact.
      times: grid [steps + 1] from 0 to 1, followed by the midpoint rule.
    """
    batch, count = len(next(iter(x0.values()))), len(x0)

    def field(x: Latents, now: jax.Array) -> Latents:
        t = jnp.broadcast_to(now[:count], (batch, count))
        at = Latents((m, x[m]) for m in x0)
        velocity, pull = jax.vjp(lambda y: Latents((m, velocity_fn(y, t)[m]) for m in x0), at)
        divergence = _dot(pull(probe)[0], probe)
        return Latents([*velocity.items(), (_DENSITY, divergence.reshape(batch, 1, 1, 1))])

    start = Latents((m, jnp.asarray(z, jnp.float32)) for m, z in x0.items())
    start[_DENSITY] = jnp.zeros((batch, 1, 1, 1))
    x = followed(field, start, times)
    end, size = Latents((m, x[m]) for m in x0), sum(z[0].size for z in x0.values())
    return x[_DENSITY].reshape(batch) - _dot(end, end) / 2 - size * math.log(2 * math.pi) / 2


def _dot(a: Mapping[str, jax.Array], b: Mapping[str, jax.Array]) -> jax.Array:
    """Sum over all numbers of a sample, [B]."""
    return sum((jnp.sum(a[m] * b[m], (1, 2, 3)) for m in b), jnp.zeros(()))


class Densities:
    """Log-likelihoods under a model; compiles once for each split into wanted and given, number of steps and batch."""

    def __init__(self, sampler: Sampler):
        self._sampler = sampler
        self._program = jax.jit(functools.partial(_row_density, sampler.layout), static_argnames="steps")

    def __call__(
        self, params: Params, known: Known, how: Integration, progress: Callable[[int], object] | None = None
    ) -> LogLikelihood:
        """log p(known.wanted | known.given, class) of n samples. Raises NotFinite if a number is not."""
        params, key = self._sampler.place(params), keys.of_seed(how.seed, "likelihood")
        n = len(known)
        progress = progress or Progress("likelihood", n * how.draws, "flows")
        program = functools.partial(self._program, params, key, how.given_time, steps=how.steps)
        rows = known.repeated(how.draws), np.arange(n * how.draws, dtype=np.int32)
        found = over_rows(lambda part: program(*part), rows, how.batch, self._sampler.layout, progress)
        nats = found.astype(np.float64).reshape(n, how.draws)
        if not np.isfinite(nats).all():
            bad = np.flatnonzero(~np.isfinite(nats).all(1))[0]
            raise NotFinite(
                f"the log-likelihood of sample {bad} is NaN or infinite; look at the weights, or more steps"
            )
        size = sum(z[0].size for z in known.wanted.values())
        error = nats.std(1, ddof=1) / math.sqrt(how.draws) if how.draws > 1 else np.full(n, np.nan)
        return LogLikelihood(nats.mean(1), error, size)


def _row_density(
    layout: Layout, params: Params, key: jax.Array, time: jax.Array, known: Known, numbers: jax.Array, *, steps: int
) -> jax.Array:
    shapes = layout.architecture.sample_shapes
    signs = requests.noise(keys.stream(key, "signs"), numbers, shapes)
    probe = Latents((m, jnp.sign(signs[m])) for m in known.wanted)
    velocity_fn = velocity_of(layout, params, known.class_id, requests.noise(key, numbers, shapes), known.given, time)
    return log_density(velocity_fn, known.wanted, probe, times_from_data(steps))
