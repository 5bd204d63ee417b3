"""Inversion: the noise from which the flow makes a sample, found by following it from the data at t = 0 to t = 1.

The flow dx/dt = v(x, t) can be followed both ways (Song et al. 2021, section 4.3; DDIM inversion is the same). The
noise that is found makes the sample again, up to the errors of both ways, and under another class or other conditions
it makes a sample that has much in common with the first one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.models.architectures import Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.sampling import requests
from mmgen_jax.sampling.fields import Field, Interval
from mmgen_jax.sampling.probing import Known, over_rows, velocity_of
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.sampling.solvers import midpoint
from mmgen_jax.system.console import Progress
from mmgen_jax.system.rules import integer, number, setting


@dataclass(frozen=True)
class Inversion:
    """How noise is found: the arguments of `MMGen.invert`."""

    steps: int = setting(50, integer(1), "of the flow, each with two evaluations")
    given_time: float = setting(0.005, number(0, 1), "t at which given modalities are held")
    seed: int = setting(0, integer(0), "of the noise of what is given and ignored")
    batch: int = setting(32, integer(1), "samples at once")


def times_from_data(steps: int) -> jax.Array:
    """Times [steps + 1] from 0 to 1, squares of equal steps: densities of data change fastest near t = 0."""
    return jnp.linspace(0.0, 1.0, steps + 1) ** 2


def followed(field: Field, start: Latents, times: jax.Array) -> Latents:
    """Where a flow leads from `start` at times[0], with the midpoint rule over the grid [steps + 1]."""

    def body(x: Latents, at: jax.Array) -> tuple[Latents, None]:
        now, then = (jnp.broadcast_to(t, (len(start),)) for t in at)
        interval = Interval(jnp.array(0), now, now, now, then, jnp.array(False), Latents())
        return midpoint(field, x, None, interval)[0], None

    return jax.lax.scan(body, start, jnp.stack([times[:-1], times[1:]], 1))[0]


class Inversions:
    """Finds noise under a model; compiles once for each split into wanted and given, number of steps and batch."""

    def __init__(self, sampler: Sampler):
        self._sampler = sampler
        self._program = jax.jit(functools.partial(_row_noise, sampler.layout), static_argnames="steps")

    def __call__(
        self, params: Params, known: Known, how: Inversion, progress: Callable[[int], object] | None = None
    ) -> dict[str, np.ndarray]:
        """Latents [n, h, w, C] of all modalities: where known.wanted lead to, and what all others were held with."""
        params, key = self._sampler.place(params), keys.of_seed(how.seed, "sample")
        progress = progress or Progress("inversion", len(known), "samples")
        program = functools.partial(self._program, params, key, how.given_time, steps=how.steps)
        rows = known, np.arange(len(known), dtype=np.int32)
        return dict(over_rows(lambda part: program(*part), rows, how.batch, self._sampler.layout, progress))


def _row_noise(
    layout: Layout, params: Params, key: jax.Array, time: jax.Array, known: Known, numbers: jax.Array, *, steps: int
) -> Latents:
    shapes = layout.architecture.sample_shapes
    noise = requests.noise(key, numbers, shapes)
    velocity_fn = velocity_of(layout, params, known.class_id, noise, known.given, time)

    def field(x: Latents, now: jax.Array) -> Latents:
        return Latents(velocity_fn(x, jnp.broadcast_to(now, (len(numbers), len(x)))))

    start = Latents((m, jnp.asarray(z, jnp.float32)) for m, z in known.wanted.items())
    return Latents(noise | followed(field, start, times_from_data(steps)))
