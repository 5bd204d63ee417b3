"""What squared errors of a velocity say of likelihood.

The clean sample x0 is seen through noise as x_t = (1 - t) x0 + t e, with u = e - x0. For a velocity v that is exact for
the density p, so that v(x_t, t) = E[u | x_t],

    -log p(x0) = c + integral over t from 0 to 1 of (1 - t) / t  E_e |v(x_t, t) - u|^2 dt,

where c depends on neither p nor a condition. Differences between conditions are therefore log-likelihood ratios.

Derivation: with the signal-to-noise ratio s = ((1 - t) / t)^2, the relation of information and error holds for each
x0 (Guo, Shamai & Verdu 2005; Kong et al. 2023): d/ds KL(p(x_t | x0) || p(x_t)) = E_e |x0 - E[x0 | x_t]|^2 / 2. The
divergence is 0 at s = 0 and tends to -log p(x0) plus what the noise alone determines as s grows. The clean sample that
belongs to v is x_t - t v, so its error is t^2 |v - u|^2, and ds = -2 (1 - t) / t^3 dt.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import flow, keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.rules import INTERVAL, Rule

RANGE = Rule(lambda v: INTERVAL.allows(v) and v[0] < v[1], "a tuple (low, high) with 0 <= low < high <= 1")
FIRST_TIME = 1e-4  # errors are not looked at before this t, as their weight is infinite at 0


def weighted_errors(velocity_fn: VelocityFn, x0: Mapping[str, AnyArray], noise: Latents, t: jax.Array) -> Latents:
    """(1 - t) / t times the squared error of the velocity at t [B], one for all modalities of a sample.

    Args:
      velocity_fn: (x, t [B, M]) -> velocities of the modalities of x0.
      x0: clean latents [B, h, w, C].
      noise: standard normal noise of at least the same modalities.
      t: times [B] in (0, 1].

    Returns:
      the errors [B, h, w] of each position, summed over channels, in float32. Their mean over noise and uniform times
      is -log p(x0) in nats, up to a constant; see above.
    """
    x, target = Latents(), Latents()
    for m, clean in x0.items():
        x[m], target[m] = flow.interpolate(flow.LINEAR, jnp.asarray(clean, jnp.float32), noise[m], t)
    velocity = velocity_fn(x, jnp.repeat(t[:, None], len(x), 1))
    weight = ((1 - t) / t)[:, None, None]
    return Latents((m, weight * jnp.square(velocity[m] - target[m]).sum(-1)) for m in x0)


def times_within(key: jax.Array, numbers: AnyArray, low: AnyArray, width: AnyArray) -> jax.Array:
    """Times [B], uniform in [low, low + width], of the draws `numbers` [B]; not before `FIRST_TIME`."""
    uniform = jax.vmap(lambda i: jax.random.uniform(keys.stream(jax.random.fold_in(key, i), "times")))(numbers)
    return jnp.maximum(low + width * uniform, FIRST_TIME)
