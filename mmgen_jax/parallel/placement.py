"""How one device gets the weights it computes with, and how devices that share a block's products join them.

The network computes on local arrays: of a batch that is split over devices, and of weights that a placement turns
from stored parts into what products need. The single device is the placement that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


def einsum(equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Product in x's type; exact in float32, which a TPU multiplies in bfloat16 unless asked not to."""
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(equation, x, kernel.astype(x.dtype), precision=precision)


def _same(x: Any) -> Any:
    return x


def _product(_name: str, equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return einsum(equation, x, kernel)


@dataclass(frozen=True)
class Placement:
    """Attributes:
    platform: that computes: "cpu", "gpu" or "tpu".
    block: stored block -> the same, all but its kernels as the device needs them; called inside the loop over blocks.
    product: (name of a layer of the block, einsum's equation, activations in the compute type, stored kernel) -> their
      product with the kernel as the device needs it, which is whole only meanwhile.
    share: tokens that all members of a tensor group have -> input of the products that they split.
    join: partial sums of the members -> their sum, which all have.
    members: devices of a tensor group; each has 1 / members of the heads and of the MLP.
    """

    platform: str
    block: Callable[[Any], Any] = _same
    product: Callable[[str, str, jax.Array, jax.Array], jax.Array] = _product
    share: Callable[[jax.Array], jax.Array] = _same
    join: Callable[[jax.Array], jax.Array] = _same
    members: int = 1


def single() -> Placement:
    """Everything on the default device."""
    return Placement(jax.default_backend())
