"""Self-attention of normalised tokens, by XLA or by the TPU kernel; both have the same parameters and result."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from mmgen_jax.models import attention_kernel

NAMES = ("auto", "xla", "pallas")
# (fused q, k, v projection, tokens [B, T, width], heads) -> [B, T, D] before the output projection
Attention = Callable[[nnx.Linear, jax.Array, int], jax.Array]


def xla(project: nnx.Linear, x: jax.Array, heads: int) -> jax.Array:
    """On any platform and for any shape; softmax in float32."""
    qkv = checkpoint_name(project(x), "qkv")
    b, n, _ = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, heads, -1), 2, 0)
    return checkpoint_name(jax.nn.dot_product_attention(q, k, v).reshape(b, n, -1), "attention")


def pallas(project: nnx.Linear, x: jax.Array, heads: int, *, interpret: bool = False) -> jax.Array:
    """By `attention_kernel`, which `project` writes for with the tokens last; shapes must fit it."""
    kernel = project.kernel[...].astype(project.dtype)
    qkv = jnp.einsum("btd,de->bet", x.astype(project.dtype), kernel, precision=project.precision)
    qkv = checkpoint_name(qkv, "qkv")
    return attention_kernel.attend(qkv, project.bias[...], heads, interpret).swapaxes(1, 2)


def choose(name: str, platform: str, tokens: int, head_width: int) -> Attention:
    """The implementation that `model.attention` names; "auto" is the fastest that fits platform and shapes.

    "pallas" falls back to XLA for other platforms and shapes too: a config that was made for TPUs runs everywhere.
    """
    fits = platform == "tpu" and attention_kernel.fits(tokens, head_width)
    return pallas if name in ("auto", "pallas") and fits else xla
