"""The dense prediction head (Ranftl et al. 2021) of Depth Anything: one number per pixel from features of four blocks.

Attributes are named as in the transformers library, so that the path of a weight here is its name there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmgen_jax.frozen.resample import corner_bilinear, resize


@dataclass(frozen=True)
class DPTConfig:
    """The widths of the head's layers.

    Attributes:
      inputs: width of the tokens.
      necks: widths at the four resolutions, finest first: 4, 2, 1 and 1/2 times that of the tokens.
      fusion: width of the features in which these are fused.
      hidden: width of the last layers.
    """

    inputs: int
    necks: tuple[int, int, int, int]
    fusion: int
    hidden: int


def _conv(inputs: int, outputs: int, size: int, dtype, rngs: nnx.Rngs, **kwargs) -> nnx.Conv:
    padding = size // 2
    return nnx.Conv(inputs, outputs, (size, size), padding=((padding,) * 2,) * 2, dtype=dtype, rngs=rngs, **kwargs)


class Reassemble(nnx.Module):
    """Turns tokens into an image of another width and resolution."""

    def __init__(self, inputs: int, width: int, factor: float, dtype, rngs: nnx.Rngs):
        self.projection = _conv(inputs, width, 1, dtype, rngs)
        self.resize: nnx.Conv | nnx.ConvTranspose | None
        if factor > 1:
            sides = (int(factor),) * 2
            self.resize = nnx.ConvTranspose(
                width, width, sides, strides=sides, padding="VALID", transpose_kernel=True, dtype=dtype, rngs=rngs
            )
        else:
            self.resize = _conv(width, width, 3, dtype, rngs, strides=2) if factor < 1 else None

    def __call__(self, x: Array) -> Array:
        x = self.projection(x)
        return x if self.resize is None else self.resize(x)


class Residual(nnx.Module):
    def __init__(self, width: int, dtype, rngs: nnx.Rngs):
        self.convolution1, self.convolution2 = (_conv(width, width, 3, dtype, rngs) for _ in range(2))

    def __call__(self, x: Array) -> Array:
        return x + self.convolution2(jax.nn.relu(self.convolution1(jax.nn.relu(x))))


class Fusion(nnx.Module):
    """Adds the features of one resolution, and resizes to the next one."""

    def __init__(self, width: int, dtype, rngs: nnx.Rngs):
        self.projection = _conv(width, width, 1, dtype, rngs)
        # The coarsest one adds nothing, although its first unit has weights.
        self.residual_layer1, self.residual_layer2 = Residual(width, dtype, rngs), Residual(width, dtype, rngs)

    def __call__(self, x: Array, added: Array | None, height: int, width: int) -> Array:
        if added is not None:
            x = x + self.residual_layer1(added)
        return self.projection(resize(self.residual_layer2(x), height, width, corner_bilinear))


class Neck(nnx.Module):
    def __init__(self, config: DPTConfig, dtype, rngs: nnx.Rngs):
        factors = (4, 2, 1, 0.5)
        self.reassemble_stage = nnx.Dict(
            layers=nnx.List(
                [Reassemble(config.inputs, w, f, dtype, rngs) for w, f in zip(config.necks, factors, strict=True)]
            )
        )
        self.convs = nnx.List([_conv(w, config.fusion, 3, dtype, rngs, use_bias=False) for w in config.necks])
        self.fusion_stage = nnx.Dict(layers=nnx.List([Fusion(config.fusion, dtype, rngs) for _ in config.necks]))

    def __call__(self, features: Sequence[Float[Array, "B h w D"]]) -> Array:
        images = [
            conv(reassemble(x))
            for x, reassemble, conv in zip(features, self.reassemble_stage["layers"], self.convs, strict=True)
        ]
        x = images[-1]
        sizes = [image.shape[1:3] for image in images[-2::-1]] + [tuple(2 * side for side in images[0].shape[1:3])]
        for fuse, added, size in zip(self.fusion_stage["layers"], [None, *images[-2::-1]], sizes, strict=True):
            x = fuse(x, added, *size)
        return x


class Last(nnx.Module):
    def __init__(self, config: DPTConfig, dtype, rngs: nnx.Rngs):
        self.conv1 = _conv(config.fusion, config.fusion // 2, 3, dtype, rngs)
        self.conv2 = _conv(config.fusion // 2, config.hidden, 3, dtype, rngs)
        self.conv3 = _conv(config.hidden, 1, 1, dtype, rngs)

    def __call__(self, x: Array, height: int, width: int) -> Float[Array, "B H W"]:
        x = resize(self.conv1(x), height, width, corner_bilinear)
        return jax.nn.relu(self.conv3(jax.nn.relu(self.conv2(x))))[..., 0].astype(jnp.float32)


class DPT(nnx.Module):
    """Computes float32 ``[B, H, W]``, at least 0, from features ``[B, h, w, D]`` of four blocks."""

    def __init__(self, config: DPTConfig, dtype: str, *, rngs: nnx.Rngs):
        self.neck, self.head = Neck(config, jnp.dtype(dtype), rngs), Last(config, jnp.dtype(dtype), rngs)

    def __call__(self, features: Sequence[Float[Array, "B h w D"]], height: int, width: int) -> Float[Array, "B H W"]:
        return self.head(self.neck(features), height, width)
