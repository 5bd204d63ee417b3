"""Computes a network on a few images at once, which bounds its memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def chunked(run: Callable[[Array], Array], x: Float[Array, "N ..."], chunk: int) -> Float[Array, "N ..."]:
    """Computes `run` on at most `chunk` rows at once. The rows of a chunk are spread over the batch and its devices."""
    parts = math.ceil(len(x) / chunk)
    if parts <= 1:
        return run(x)
    rows = math.ceil(len(x) / parts)
    padded = jnp.pad(x, [(0, rows * parts - len(x))] + [(0, 0)] * (x.ndim - 1))
    out = jax.lax.map(run, padded.reshape(rows, parts, *x.shape[1:]).swapaxes(0, 1))
    return out.swapaxes(0, 1).reshape(rows * parts, *out.shape[2:])[: len(x)]
