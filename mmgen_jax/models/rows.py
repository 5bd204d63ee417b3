"""Repeats vectors for all tokens, so that their gradients are sums in float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def spread(vectors: jax.Array, like: jax.Array) -> jax.Array:
    """Repeats a vector [D] for all rows of `like` [..., D], or vectors [B, D] for all tokens of `like` [B, T, D].

    The result has the type of `like`, whereas the gradient is summed in float32. Left to automatic differentiation, it
    would be a sum in bfloat16, which XLA computes ten times more slowly on CPUs.
    """
    wide = vectors.astype(jnp.float32)
    if wide.ndim > 1:
        wide = wide.reshape(wide.shape[0], *(1,) * (like.ndim - wide.ndim), wide.shape[-1])
    return jnp.broadcast_to(wide, like.shape).astype(like.dtype)
