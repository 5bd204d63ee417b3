"""The interface between the network and the mesh: four functions that the network's blocks call.

The network (`models/layers.py`, `models/mmdit.py`) is written as for one device and computes on the arrays of that
device. On a mesh, two more things must happen inside a block: weights that are stored in parts must be gathered before
they are used, and devices of a tensor group, which split the heads and the MLP of a block, must add up their results.
The network calls the functions of a `Placement` at these places, so it knows nothing of meshes. On a single device the
functions add nothing (`single`). `models/layout.py` makes the functions for a mesh and explains what they communicate.

    x -> share -> product(qkv), attention of own heads, product(proj) -> join -> x + ...
    x -> share -> product(fc1), gelu of own columns,    product(fc2)  -> join -> x + ...
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


def einsum(equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes an einsum in the type of x. float32 stays float32, where a TPU would multiply in bfloat16 by default."""
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    return jnp.einsum(equation, x, kernel.astype(x.dtype), precision=precision)


def _same(x: Any) -> Any:
    return x


def _product(_name: str, equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return einsum(equation, x, kernel)


@dataclass(frozen=True)
class Placement:
    """The functions that blocks call to compute on one device of a mesh.

    Attributes:
      platform: platform of the device: "cpu", "gpu" or "tpu".
      block: stored weights of one block -> the weights to compute with, except its kernels. It is called inside the
        loop over blocks, so that only one block is gathered at a time.
      product: multiplies with a kernel: (name of the layer in its block, equation of einsum, activations in the compute
        type, stored kernel) -> result. It gathers the kernel, which is whole only during the multiplication.
      share: called on tokens [B, T, D], which are the same on all members of a tensor group, before the layers that the
        members split. It returns the tokens; in the backward pass it adds up the members' gradients.
      join: called on the members' partial results [B, T, D] after these layers; returns their sum on all members.
      members: number of devices in a tensor group; each has 1 / members of the heads and of the MLP's hidden layer.
      attention: what to compute attention with in place of `model.attention`; "" = that.
    """

    platform: str
    block: Callable[[Any], Any] = _same
    product: Callable[[str, str, jax.Array, jax.Array], jax.Array] = _product
    share: Callable[[jax.Array], jax.Array] = _same
    join: Callable[[jax.Array], jax.Array] = _same
    members: int = 1
    attention: str = ""


def single(*, forward: bool = False) -> Placement:
    """The placement of a network that computes on the default device alone.

    `forward` is for derivatives in forward mode, which the attention kernel does not have.
    """
    return Placement(jax.default_backend(), attention="xla" if forward else "")
