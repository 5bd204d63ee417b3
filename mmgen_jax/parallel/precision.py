"""How exactly matrices are multiplied."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def precision_of(dtype: DTypeLike) -> jax.lax.Precision | None:
    """The precision of products in this type: the highest for float32, else the platform's own.

    By default a TPU multiplies float32 in bfloat16, and a GPU in TensorFloat-32. What is kept in float32 here is meant
    to be exact.
    """
    return jax.lax.Precision.HIGHEST if jnp.dtype(dtype) == jnp.float32 else None
