"""The interface between the network and the mesh: the functions that the network's blocks call.

The network (`models/layers.py`, `models/mmdit.py`) is written as for one device and computes on the arrays of that
device. On a mesh, two more things must happen inside a block: weights that are stored in parts must be gathered before
they are used, and devices of a tensor group, which split the heads and the MLP of a block, must add up their results.
The network calls the functions of a `Placement` at these places, so it knows nothing of meshes. On a single device the
functions add nothing (`single`). `models/layout.py` makes the functions for a mesh and explains what they communicate.

    x -> share -> product(qkv), attention of own heads, product(proj) -> join -> x + ...
    x -> share -> product(fc1), gelu of own columns,    product(fc2)  -> join -> x + ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from mmgen_jax.parallel.precision import precision_of


def einsum(equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes an einsum in the type of x, as `precision_of` says."""
    return jnp.einsum(equation, x, kernel.astype(x.dtype), precision=precision_of(x.dtype))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def wide_einsum(equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes `einsum` for CPUs, whose bfloat16 units only give float32: XLA multiplies in float32 for other results.

    All three products of a training step ask for float32 and round afterwards, which is the same number up to the order
    of sums. Gradients of a float32 kernel are not rounded. It has no derivatives in forward mode, and the axis that the
    kernel adds must be the last of the result, as XLA cannot compute transposed ones.
    """
    return _wide(equation, x, kernel.astype(x.dtype)).astype(x.dtype)


def _wide(equation: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(equation, a, b, precision=precision_of(a.dtype), preferred_element_type=jnp.float32)


def _wide_backward(equation: str, stored: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = stored
    inputs, out = equation.split("->")
    of_x, of_kernel = inputs.split(",")
    grad_x = _wide(f"{out},{of_kernel}->{of_x}", grad, kernel.astype(x.dtype))
    return grad_x.astype(x.dtype), _wide(f"{of_x},{out}->{of_kernel}", x, grad).astype(kernel.dtype)


wide_einsum.defvjp(lambda equation, x, kernel: (wide_einsum(equation, x, kernel), (x, kernel)), _wide_backward)


Spread = Callable[[jax.Array, jax.Array], jax.Array]  # (vectors, what they are repeated like) -> the latter's shape


def spread(vectors: jax.Array, like: jax.Array) -> jax.Array:
    """Repeats a vector [D] for all rows of `like` [..., D], or vectors [B, D] for all tokens of `like` [B, T, D]."""
    return _spread(vectors, like, like.dtype)


def wide_spread(vectors: jax.Array, like: jax.Array) -> jax.Array:
    """Computes `spread` for CPUs: the result has the type of `like`, whereas the gradient is summed in float32.

    Left to automatic differentiation, it would be a sum in bfloat16, which XLA computes ten times more slowly on CPUs.
    Elsewhere float32 only costs: 5% of the time of a training step on TPUs, as their compiler counts it.
    """
    return _spread(vectors, like, jnp.dtype(jnp.float32))


def _spread(vectors: jax.Array, like: jax.Array, summed: jnp.dtype) -> jax.Array:
    wide = vectors.astype(summed)
    if wide.ndim > 1:
        wide = wide.reshape(wide.shape[0], *(1,) * (like.ndim - wide.ndim), wide.shape[-1])
    return jnp.broadcast_to(wide, like.shape).astype(like.dtype)


def _same(x: Any) -> Any:
    return x


def _product(_name: str, equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
    return einsum(equation, x, kernel)


def einsum_for(platform: str, *, forward: bool = False) -> Callable[[str, jax.Array, jax.Array], jax.Array]:
    """What multiplies with kernels on a platform; `forward` is for derivatives in forward mode."""
    return wide_einsum if platform == "cpu" and not forward else einsum


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

    @property
    def spread(self) -> Spread:
        """What repeats vectors for all tokens, see `spread`."""
        return wide_spread if self.platform == "cpu" else spread


def single(*, forward: bool = False) -> Placement:
    """The placement of a network that computes on the default device alone.

    `forward` is for derivatives in forward mode, which neither the attention kernel nor `wide_einsum` has.
    """
    platform = jax.default_backend()
    multiply = einsum_for(platform, forward=forward)
    return Placement(
        platform,
        product=lambda _name, equation, x, kernel: multiply(equation, x, kernel),
        attention="xla" if forward else "",
    )
