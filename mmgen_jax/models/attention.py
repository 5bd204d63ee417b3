"""Self-attention of normalised tokens, by XLA or by the TPU kernel; both have the same parameters and result."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from mmgen_jax.models import attention_kernel

NAMES = ("auto", "xla", "pallas")
Project = Callable[[str], jax.Array]  # einsum of tokens "btd" and the fused kernel "de" -> q, k, v without their bias
# (projection, its bias [3 * D], heads) -> [B, T, D] before the output projection
Attention = Callable[[Project, jax.Array, int], jax.Array]


def xla(project: Project, bias: jax.Array, heads: int) -> jax.Array:
    """On any platform and for any shape; softmax in float32."""
    qkv = project("btd,de->bte")
    qkv = checkpoint_name(qkv + bias.astype(qkv.dtype), "qkv")
    b, n, _ = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, heads, -1), 2, 0)
    return checkpoint_name(jax.nn.dot_product_attention(q, k, v).reshape(b, n, -1), "attention")


def pallas(project: Project, bias: jax.Array, heads: int, *, interpret: bool = False) -> jax.Array:
    """By `attention_kernel`, which the projection writes for with the tokens last; shapes must fit it."""
    qkv = checkpoint_name(project("btd,de->bet"), "qkv")
    return attention_kernel.attend(qkv, bias, heads, interpret).swapaxes(1, 2)


def choose(name: str, platform: str, tokens: int, head_width: int) -> Attention:
    """The implementation that `model.attention` names; "auto" is the fastest that fits platform and shapes.

    "pallas" falls back to XLA for other platforms and shapes too: a config that was made for TPUs runs everywhere.
    """
    fits = platform == "tpu" and attention_kernel.fits(tokens, head_width)
    return pallas if name in ("auto", "pallas") and fits else xla
