"""The kinds of blocks that a transformer can be made of, see `model.recipe`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.models import attention, modern
from mmgen_jax.models.layers import Block, position_embedding


@dataclass(frozen=True)
class Recipe:
    """A kind of blocks, and what belongs to it.

    Attributes:
      block: their class.
      position: (rows, columns, width) -> what is added to the tokens, [rows * columns, width].
      mixer: (what computes attention, see `Placement.attention`; platform; rows; columns; width of a head) -> what a
        block needs to mix tokens.
      memory: (tokens [B, T, D], heads, width of a head) -> what the first block finds in the place of what it hands on
        to the others.
      mlp_numbers: (width, hidden width of the published MLP) -> numbers in the matrices of an MLP.
    """

    block: Callable[..., Any]
    position: Callable[[int, int, int], np.ndarray]
    mixer: Callable[[str, str, int, int, int], Any]
    memory: Callable[[jax.Array, int, int], jax.Array | None]
    mlp_numbers: Callable[[int, int], int]


def _attention(kind: str, platform: str, rows: int, columns: int, head_width: int) -> attention.Attention:
    return attention.choose(kind, platform, rows * columns, head_width)


def _turns(_kind: str, _platform: str, rows: int, columns: int, head_width: int) -> np.ndarray:
    return modern.angles(rows, columns, head_width)


def _values(tokens: jax.Array, heads: int, head_width: int) -> jax.Array:
    return jnp.zeros((*tokens.shape[:2], heads, head_width), tokens.dtype)


RECIPES = {
    "published": Recipe(
        block=Block,
        position=position_embedding,
        mixer=_attention,
        memory=lambda *_: None,
        mlp_numbers=lambda width, hidden: 2 * width * hidden,
    ),
    "modern": Recipe(
        block=modern.ModernBlock,
        position=lambda rows, columns, width: np.zeros((rows * columns, width), np.float32),  # q and k are turned
        mixer=_turns,
        memory=_values,
        mlp_numbers=lambda width, hidden: 3 * width * modern.gated_width(hidden),
    ),
}
