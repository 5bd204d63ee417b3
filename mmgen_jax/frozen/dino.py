"""DINOv2 (Oquab et al. 2023). The model's tokens are aligned with its patch features."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mmgen_jax.frozen import abstract
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.resample import Matrix, resize, smooth_bicubic
from mmgen_jax.system.arrays import AnyArray

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of ImageNet's colours in [0, 1]
EPSILON = 1e-6
GRID = 16  # patches, each way, of images of 256 pixels, which are resized to 224 pixels


@dataclass(frozen=True)
class DinoConfig:
    """Shape of the network; by default ViT-B/14.

    Attributes:
      width, depth, heads, patch: sizes of the transformer.
      mlp_width: hidden width of the MLPs; for gated MLPs (SwiGLU, in ViT-g), that of one of the two halves.
      grid: patches each way that the position embedding was trained for.
      registers: number of register tokens.
      gated: whether the MLPs are gated.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    patch: int = 14
    mlp_width: int = 3072
    grid: int = 37
    registers: int = 0
    gated: bool = False


class Block(nnx.Module):
    """Pre-norm attention and MLP, each scaled per channel (LayerScale)."""

    def __init__(self, config: DinoConfig, dtype: jnp.dtype, *, rngs: nnx.Rngs):
        width, hidden = config.width, config.mlp_width
        self.heads = config.heads
        self.norm1 = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.proj = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.fc1 = nnx.Linear(width, 2 * hidden if config.gated else hidden, dtype=dtype, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)
        self.scale1, self.scale2 = nnx.Param(jnp.ones(width)), nnx.Param(jnp.ones(width))
        self.activation = _gate if config.gated else functools.partial(jax.nn.gelu, approximate=False)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Computes the block. The residual stream stays float32, and matrices are multiplied in the block's type."""
        b, t, d = x.shape
        q, k, v = jnp.moveaxis(self.qkv(self.norm1(x)).reshape(b, t, 3, self.heads, d // self.heads), 2, 0)
        attended = jax.nn.dot_product_attention(q, k, v).reshape(b, t, d)
        x = x + self.proj(attended).astype(jnp.float32) * self.scale1[...]
        hidden = self.activation(self.fc1(self.norm2(x)))
        return x + self.fc2(hidden).astype(jnp.float32) * self.scale2[...]


def _gate(x: Array) -> Array:
    gate, value = jnp.split(x, 2, -1)
    return jax.nn.silu(gate) * value


class DinoNetwork(nnx.Module):
    def __init__(self, config: DinoConfig, dtype: str, *, rngs: nnx.Rngs):
        self.config = config
        width, numbers = config.width, config.patch**2 * 3
        self.cls_token = nnx.Param(jnp.zeros((1, width)))
        self.pos_embed = nnx.Param(jnp.zeros((1 + config.grid**2, width)))
        self.register_tokens = nnx.Param(jnp.zeros((config.registers, width))) if config.registers else None
        self.patch_embed = nnx.Linear(numbers, width, dtype=jnp.dtype(dtype), rngs=rngs)

        def block(key: jax.Array) -> Block:
            return Block(config, jnp.dtype(dtype), rngs=nnx.Rngs(key))

        self.blocks = nnx.vmap(block)(jax.random.split(rngs.params(), config.depth))
        self.norm = nnx.LayerNorm(width, epsilon=EPSILON, rngs=rngs)

    def __call__(
        self, pixels: Float[AnyArray, "B H W 3"], taps: Sequence[int], resample: Matrix
    ) -> list[Float[Array, "B N D"]]:
        """Patch tokens, after the final LayerNorm, of the blocks whose numbers (from 1) are in `taps`.

        Args:
          pixels: images with ImageNet's mean and standard deviation, with height and width divisible by the patch.
          taps: numbers of blocks, ascending.
          resample: how the position embedding is resized to another grid.
        """
        return [tokens[:, 1 + self.config.registers :] for tokens in self._tokens(pixels, taps, resample)]

    def of_image(self, pixels: Float[AnyArray, "B H W 3"], resample: Matrix) -> Float[Array, "B D"]:
        """The token of the whole image (CLS) after the final LayerNorm; arguments as above."""
        return self._tokens(pixels, (self.config.depth,), resample)[0][:, 0]

    def _tokens(self, pixels: AnyArray, taps: Sequence[int], resample: Matrix) -> list[Float[Array, "B T D"]]:
        """All tokens after the final LayerNorm: that of the image, registers, patches."""
        c = self.config
        b, height, width = pixels.shape[0], pixels.shape[1] // c.patch, pixels.shape[2] // c.patch
        patches = jnp.asarray(pixels).reshape(b, height, c.patch, width, c.patch, 3).swapaxes(2, 3)
        tokens = self.patch_embed(patches.reshape(b, height * width, -1)).astype(jnp.float32)
        position = self.pos_embed[...]
        grid = position[1:].reshape(c.grid, c.grid, c.width)
        if (height, width) != (c.grid, c.grid):
            grid = resize(grid, height, width, resample)
        front = [self.cls_token[...] + position[:1]]
        if self.register_tokens is not None:
            front.append(self.register_tokens[...])
        front = [jnp.broadcast_to(part, (b, *part.shape)) for part in front]
        x = jnp.concatenate([*front, tokens + grid.reshape(-1, c.width)], 1)
        outputs, first = [], 0
        for tap in taps:
            part = jax.tree.map(lambda leaf, first=first, tap=tap: leaf[first:tap], self.blocks)
            x = jax.lax.scan(lambda x, block: (block(x), None), x, part)[0]
            outputs.append(self.norm(x))
            first = tap
        return outputs


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("params",),
    meta_fields=("config", "dtype", "grid", "resample"),
)
@dataclass(frozen=True)
class Dino:
    """Computes features of images: `x_norm_patchtokens`, which REPA and the published recipe use.

    Attributes:
      config: config of the network.
      params: its weights.
      dtype: type that matrices are multiplied in; the residual stream and norms are float32.
      grid: patches, each way, as many as the model has tokens. Images are resized to `grid` x `config.patch` pixels.
      resample: how the position embedding is resized; by default as in the published recipe.
    """

    config: DinoConfig
    params: Params
    dtype: str = "float32"
    grid: int = GRID
    resample: Matrix = smooth_bicubic

    def __call__(self, rgb: Float[AnyArray, "B H W 3"]) -> Float[Array, "B N D"]:
        """Computes float32 features of the grid * grid patches of rgb in [-1, 1], row by row.

        The published features are those of the centre crop at 224 pixels. Here the crop at 256 pixels is resized.
        """
        side = self.grid * self.config.patch
        pixels = (
            resize(normalise(rgb), side, side, smooth_bicubic) if rgb.shape[1:3] != (side, side) else normalise(rgb)
        )
        return self.tokens(pixels)

    def tokens(self, pixels: Float[AnyArray, "B H W 3"]) -> Float[Array, "B N D"]:
        """Computes the features of pixels that are resized and normalised already."""
        return self._network()(pixels, (self.config.depth,), self.resample)[0]

    def of_image(self, pixels: Float[AnyArray, "B H W 3"]) -> Float[Array, "B D"]:
        """Computes `x_norm_clstoken`, one feature of each image, of pixels as `tokens` takes them."""
        return self._network().of_image(pixels, self.resample)

    def _network(self) -> DinoNetwork:
        return nnx.merge(abstract.graphdef(DinoNetwork, self.config, self.dtype), self.params)


def normalise(rgb: Float[AnyArray, "B H W 3"]) -> Float[Array, "B H W 3"]:
    """Normalises colours in [-1, 1] by ImageNet's mean and standard deviation."""
    return ((jnp.asarray(rgb) + 1) / 2 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)


def abstract_params(config: DinoConfig) -> Params:
    """Shapes of the weights."""
    return abstract.params(DinoNetwork, config, "float32")
