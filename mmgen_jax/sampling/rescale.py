"""Guidance rescale: guided samples with the contrast of those that are not guided (Lin et al. 2024, equations 15, 16).

Guidance of a large scale makes what a velocity expects of the clean sample, x0 = x - t v, too wide: colours saturate.
With the standard deviations of x0 over all positions and channels of a modality of a sample,

    x0' = (phi s / std(x0) + 1 - phi) x0,    s = sum_j c_j+ std(x0_j) / sum_j c_j+

where c_j is the coefficient of branch j in v (see `branches.py`), and c+ is c or 0. Of classifier-free guidance with a
scale above 1 the conditional branch alone has c_j > 0: that is the paper's rule. In other sums, s is the mean of the
branches that are leaned on.

Why x0 and not v: the paper rescales what its network predicts, which at t = 1 is -x0. On the linear path v = noise - x0
at all times. Most of its deviation is that of the noise, which guidance leaves as it is, so the rule would do little
where guidance does most; and to scale v is to scale the noise that is left in x too, which leads off the path. As t
falls to 0, x0 tends to x in every branch, and so x0' to x0. The velocity of x0' is (x - x0') / t = v + (x0 - x0') / t.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import flow


def rescaled(
    x: jax.Array,
    t: jax.Array,
    velocity: jax.Array,
    parts: Sequence[jax.Array],
    coefficients: Sequence[jax.Array],
    phi: float | jax.Array,
) -> jax.Array:
    """The velocity [B, H, W, C] of x0' of one modality, on the linear path; it is v itself at t = 0.

    Args:
      x: the noisy modality [B, H, W, C].
      t: its times [B].
      velocity: v, the sum of the branches.
      parts: velocities of the branches.
      coefficients: c_j [B] of each of them; they sum to 1.
      phi: how far deviations are moved to s, from 0 (not at all) to 1.
    """
    clean = flow.x0_from_velocity(flow.LINEAR, velocity, x, t)
    leaned = [jnp.maximum(c, 0) for c in coefficients]
    own = [_deviation(flow.x0_from_velocity(flow.LINEAR, v, x, t)) for v in parts]
    wanted = sum(c * s for c, s in zip(leaned, own, strict=True)) / sum(leaned)
    change = phi * (1 - wanted / _deviation(clean))  # of x0, as a share of it
    rate = jnp.where(t > 0, change / jnp.where(t > 0, t, 1), 0)
    return velocity + rate.reshape(-1, *(1,) * (x.ndim - 1)) * clean


def _deviation(x: jax.Array) -> jax.Array:
    """Standard deviation [B] of each sample; not 0, where it could not be divided by, nor its gradient be taken."""
    return jnp.sqrt(jnp.maximum(x.var(range(1, x.ndim)), 1e-12))
