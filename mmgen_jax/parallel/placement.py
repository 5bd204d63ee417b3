"""How one device gets the weights it computes with, and how devices that split a block's work join their results.

The network is written for one device and computes on its local arrays. What a mesh adds (gathering weights that are
stored in parts, and communication within a tensor group) happens in the four functions of a `Placement`, which the
blocks call at the places where it is needed. On a single device these functions add nothing; `models/layout.py` makes
those of a mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


def einsum(equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """einsum in x's type. float32 is multiplied exactly, where a TPU would use bfloat16 by default."""
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(equation, x, kernel.astype(x.dtype), precision=precision)


def _same(x: Any) -> Any:
    return x


def _product(_name: str, equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return einsum(equation, x, kernel)


@dataclass(frozen=True)
class Placement:
    """What blocks call to compute on a device of a mesh.

    Attributes:
      platform: the platform that computes: "cpu", "gpu" or "tpu".
      block: makes the weights of a stored block usable, except its kernels; called inside the loop over blocks, so that
        only one block is gathered at a time.
      product: multiplies with a kernel, given (name of the layer in its block, equation of einsum, activations in the
        compute type, stored kernel). The kernel is gathered inside, so that it is whole only during the multiplication.
      share: called on tokens that all members of a tensor group have, before the layers that the members split. The
        same going forward; coming back, the members' gradients are added up.
      join: called on the members' partial sums after these layers; returns their sum on all members.
      members: number of devices in a tensor group; each has 1 / members of the heads and of the MLP's hidden layer.
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
