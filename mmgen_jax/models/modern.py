"""A transformer block with what has become usual since DiT; it computes what `layers.Block` does, in other ways.

* RMSNorm in place of LayerNorm (Zhang & Sennrich 2019).
* Positions by rotating queries and keys (RoPE, Su et al. 2021), half of each head by row and half by column, in place
  of a vector that is added to the tokens.
* Queries and keys of unit root mean square in each head (query-key normalisation, Henry et al. 2020), so that no score
  grows without bound.
* A gated MLP (SwiGLU, Shazeer 2020) with two thirds of the hidden width, and so as many parameters.
* Values mixed with those of the first block, by a share that each block learns (value residual, Zhou et al. 2024).
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from mmgen_jax.models.layers import ZEROS, BlockLayers, linear, modulate
from mmgen_jax.parallel.placement import Placement

EPS = 1e-6
BASE = 100.0  # of the wavelengths of positions, which are of grids with tens of tokens each way and not of texts
MULTIPLE = 16  # hidden widths of gated MLPs are multiples of it


def gated_width(mlp_width: int) -> int:
    """Hidden width of the gated MLP with three matrices that has as many parameters as one with two."""
    return max(1, round(mlp_width * 2 / 3 / MULTIPLE)) * MULTIPLE


def root_mean_square(x: jax.Array) -> jax.Array:
    """RMSNorm without affine parameters over the last axis, in float32, with a result of x's type."""
    y = x.astype(jnp.float32)
    return (y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPS)).astype(x.dtype)


def angles(rows: int, columns: int, head_width: int) -> np.ndarray:
    """Angles float32 [rows * columns, head_width / 2] by which pairs of numbers turn: first by row, then by column.

    Those of a pair grow with the position by BASE^(-i / n), i = 0 .. n - 1, for n = head_width / 4 pairs each way.
    """
    count = head_width // 4
    speeds = BASE ** (-np.arange(count, dtype=np.float64) / count)
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    return np.concatenate([place.reshape(-1, 1) * speeds for place in (y, x)], 1).astype(np.float32)


def rotate(x: jax.Array, turns: np.ndarray) -> jax.Array:
    """Turns pairs (x_i, x_{i + d/2}) of each head of x [B, T, heads, d] by the angles [T, d/2]."""
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, -1)
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


class ModernBlock(BlockLayers):
    """adaLN-Zero block: tokens [B, T, D], values of the first block and silu(condition) [B, D] -> tokens, values."""

    def __init__(self, width: int, mlp_width: int, dtype, *, rngs: nnx.Rngs):
        hidden = gated_width(mlp_width)
        self.adaln = linear(width, 6 * width, rngs, dtype, ZEROS)
        self.qkv = linear(width, 3 * width, rngs, dtype)
        self.proj = linear(width, width, rngs, dtype)
        self.gate = linear(width, hidden, rngs, dtype)
        self.fc1 = linear(width, hidden, rngs, dtype)
        self.fc2 = linear(hidden, width, rngs, dtype)
        self.own = nnx.Param(jnp.zeros(()))  # its sigmoid is the share of the block's own values

    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        is_first: jax.Array,
        condition: jax.Array,
        heads: int,
        turns: np.ndarray,
        placement: Placement,
    ) -> tuple[jax.Array, jax.Array]:
        """Computes the block with `heads` heads on this device. `memory` [B, T, heads, d]: values of the first one."""
        product, biased = partial(self.product, placement), partial(self.biased, placement)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(placement, condition)
        inner = placement.share(modulate(root_mean_square(x), shift_a, scale_a, placement.spread))
        qkv = checkpoint_name(biased("qkv", product("qkv", inner)), "qkv")
        q, k, v = jnp.moveaxis(qkv.reshape(*qkv.shape[:2], 3, heads, -1), 2, 0)
        memory = jnp.where(is_first, v, memory)
        own = jax.nn.sigmoid(placement.share(self.own[...])).astype(v.dtype)
        q, k = (rotate(root_mean_square(part), turns) for part in (q, k))
        mixed = jax.nn.dot_product_attention(q, k, own * v + (1 - own) * memory)
        mixed = checkpoint_name(mixed.reshape(*mixed.shape[:2], -1), "attention")
        out = checkpoint_name(biased("proj", placement.join(product("proj", mixed))), "proj")
        x = x + placement.spread(gate_a, x) * out
        inner = placement.share(modulate(root_mean_square(x), shift_m, scale_m, placement.spread))
        gate, hidden = (checkpoint_name(biased(name, product(name, inner)), "mlp_in") for name in ("gate", "fc1"))
        out = checkpoint_name(biased("fc2", placement.join(product("fc2", jax.nn.silu(gate) * hidden))), "mlp_out")
        return x + placement.spread(gate_m, x) * out, memory
