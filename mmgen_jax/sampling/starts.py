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
from mmgen_jax.sampling import arguments
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


def slerp(first: Mapping[str, AnyArray], second: Mapping[str, AnyArray], at: float | AnyArray) -> Latents:
    """Noise on the way from one to another, on a great circle, so that it stays as long as noise is (Shoemake 1985).

    In each sample and modality, with the angle o between the two: (sin((1 - w) o) first + sin(w o) second) / sin(o).

    Args:
      first: latents [1 or n, h, w, C] of some modalities.
      second: the same of the same modalities.
      at: w in [0, 1], a number or [n]: 0 is the first, 1 the second.

    Raises:
      ValueError: modalities or shapes differ, or w is out of its range.
    """
    arguments.within("at", at, 0, 1)
    if set(first) != set(second):
        raise ValueError(f"second has {tuple(second)}: must have {tuple(first)} as the first")
    found, w = Latents(), jnp.reshape(jnp.asarray(at, jnp.float32), (-1, 1, 1, 1))
    for m, value in first.items():
        a, b = jnp.asarray(value, jnp.float32), jnp.asarray(second[m], jnp.float32)
        counts = {len(z) for z in (a, b, w)} - {1}
        if a.ndim != 4 or a.shape[1:] != b.shape[1:] or len(counts) > 1:
            raise ValueError(
                f"first[{m!r}] {a.shape}, second {b.shape}, at {len(w)}: must be [1 or n, h, w, C], n equal"
            )
        lengths = [jnp.sqrt(jnp.square(z).sum((1, 2, 3), keepdims=True)) for z in (a, b)]
        cosine = (a * b).sum((1, 2, 3), keepdims=True) / jnp.maximum(lengths[0] * lengths[1], 1e-30)
        angle = jnp.arccos(jnp.clip(cosine, -1, 1))
        apart = jnp.sin(angle) > 1e-3  # along one line there is no circle, and a straight way is as good
        sine = jnp.where(apart, jnp.sin(angle), 1)
        shares = [jnp.where(apart, jnp.sin(share * angle) / sine, share) for share in (1 - w, w)]
        found[m] = shares[0] * a + shares[1] * b
    return found
