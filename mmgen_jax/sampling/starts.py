"""Samples that begin at something that is there, not at noise.

Partial noising (SDEdit, Meng et al. 2022): with a clean sample c, noise e and a time s, what is made begins at
x_s = alpha(s) c + sigma(s) e, and the solver's grid is scaled to [0, s]. If c is a sample of the data, so is what comes
out, for any s; otherwise it is the nearer to c the smaller s is, and the more a sample of the data the larger s is.

Each modality has its own clock. Those without a start begin at noise and run from 1 to 0 meanwhile: noise at t = 1
tells nothing of the others, so x_s of some and noise of the rest is a point that the flow passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.flow import Path
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.roles import Time
from mmgen_jax.system.arrays import AnyArray


def begun(path: Path, noise: Latents, start: Mapping[str, AnyArray], time: Time) -> Latents:
    """Where a solver begins: x_s of what has a start [B, h, w, C], at s = `time`, and the noise of all else."""
    mixed = {}
    for m, clean in start.items():
        mixed[m], _ = flow.interpolate(path, jnp.asarray(clean), noise[m], jnp.full(len(clean), time))
    return Latents((m, mixed.get(m, z)) for m, z in noise.items())


def cut(times: jax.Array, names: Sequence[str], start: Mapping[str, AnyArray], time: Time) -> jax.Array:
    """The grid of times [steps + 1, M] from 1 to 0, scaled to begin at `time` for what has a start."""
    return times * jnp.stack([jnp.asarray(time if m in start else 1.0, times.dtype) for m in names]) if start else times
