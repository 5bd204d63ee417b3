"""Self-attention of normalised tokens, by XLA or by a TPU kernel. Both take the same parameters and agree."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from mmgen_jax.models import attention_kernel
from mmgen_jax.parallel.placement import Spread

NAMES = ("auto", "xla", "pallas")
Project = Callable[[str], jax.Array]  # equation of tokens "btd" and fused kernel "de" -> q, k, v without their bias
# (projection, its bias [3 * D], heads, spread) -> [B, T, D] before the output projection
Attention = Callable[[Project, jax.Array, int, Spread], jax.Array]


def xla(project: Project, bias: jax.Array, heads: int, spread: Spread) -> jax.Array:
    """Computes attention by XLA, on any platform and for any shape; the softmax is float32."""
    qkv = project("btd,de->bte")
    qkv = checkpoint_name(qkv + spread(bias, qkv), "qkv")
    b, n, _ = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(b, n, 3, heads, -1), 2, 0)
    return checkpoint_name(jax.nn.dot_product_attention(q, k, v).reshape(b, n, -1), "attention")


def pallas(project: Project, bias: jax.Array, heads: int, spread: Spread, *, interpret: bool = False) -> jax.Array:
    """Computes attention by `attention_kernel`, which must fit the shapes. The projection is made with tokens last."""
    del spread  # the kernel adds the bias
    qkv = checkpoint_name(project("btd,de->bet"), "qkv")
    return attention_kernel.attend(qkv, bias, heads, interpret).swapaxes(1, 2)


def choose(name: str, platform: str, tokens: int, head_width: int) -> Attention:
    """Chooses the implementation for a value of `model.attention`; "auto" is the fastest for platform and shapes.

    "pallas" also falls back to XLA on other platforms and for other shapes, so a config for TPUs runs everywhere.
    """
    fits = platform == "tpu" and attention_kernel.fits(tokens, head_width)
    return pallas if name in ("auto", "pallas") and fits else xla
