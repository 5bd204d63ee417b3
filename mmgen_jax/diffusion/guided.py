"""Classifier-free guidance that a network takes as an input: what it must predict at each scale.

With the velocities v of the data given a class, and v_null of the network without one, a network that is told the scale
w learns the velocity that guidance would follow (Ho & Salimans 2022; as an input: Meng et al. 2023, and Geng et al.,
Improved Mean Flows, 2025):

    v_w = v_null + w (v - v_null) = v + (w - 1) (v - v_null)

The second v is the network's own v_1, so that the target has no more noise than that of a plain model. One evaluation
then does the work of two.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmgen_jax.diffusion.latents import Latents


def scales(key: jax.Array, rows: int, largest: float, share: float) -> Float[Array, " B"]:
    """Scales [rows] of guidance: for a `share` of rows even in the logarithm from 1 to `largest`, for others 1."""
    some, amount = jax.random.split(key)
    drawn = jnp.exp(jnp.log(largest) * jax.random.uniform(amount, (rows,)))
    return jnp.where(jax.random.bernoulli(some, share, (rows,)), drawn, 1.0)


def target(
    velocity: Mapping[str, Array],
    scale: Float[Array, " B"],
    with_class: Mapping[str, Array],
    without: Mapping[str, Array],
) -> Latents:
    """Velocities [B, H, W, C] of data as guidance of this scale follows them, where both branches have these."""
    beyond = (scale - 1)[:, None, None, None]
    return Latents((m, v + beyond * (with_class[m] - without[m])) for m, v in velocity.items())
