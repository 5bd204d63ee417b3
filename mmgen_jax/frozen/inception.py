"""The Inception-v3 by which images are compared: the one of 2015 that FID was defined with (Heusel et al. 2017).

It differs from torchvision's: average pools leave the border out, the last block has a maximum pool, and there are
1,008 outputs. The attributes here have the names that pytorch-fid and torch-fidelity gave to its layers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from mmgen_jax.frozen import abstract
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.resample import Matrix, bilinear, resize, tensorflow_bilinear
from mmgen_jax.system.arrays import AnyArray

SIDE = 299  # pixels, each way, of the images that the network sees
WIDTH, OUTPUTS = 2048, 1008  # numbers of features and of outputs
_SPATIAL = 7  # channels of `mixed_6/conv` in ADM's sFID, at 17 x 17 places
_BATCH = 32  # images computed at once, a power of two


class Layer(NamedTuple):
    """A convolution: its name, number of channels, height, width and stride; without padding where the stride is 2."""

    name: str
    width: int
    height: int = 1
    across: int = 1
    stride: int = 1


Tower = tuple[tuple[Layer, ...], ...]  # steps; convolutions of one step see the same, and the last step is the output
Pool = Callable[[Array], Array]


class Plan(NamedTuple):
    """A block: towers side by side, and a pool beside them, with a convolution after it or without one."""

    towers: tuple[Tower, ...]
    pool: Pool
    after: Layer | None


def _average(x: Array) -> Array:
    return nnx.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def _highest(x: Array) -> Array:
    return nnx.max_pool(x, (3, 3), (1, 1), "SAME")


def _halved(x: Array) -> Array:
    return nnx.max_pool(x, (3, 3), (2, 2), "VALID")


def _tower(*layers: Layer) -> Tower:
    return tuple((layer,) for layer in layers)


_DOUBLE = (Layer("branch3x3dbl_1", 64), Layer("branch3x3dbl_2", 96, 3, 3))


def _block_a(pooled: int) -> Plan:
    towers = (
        _tower(Layer("branch1x1", 64)),
        _tower(Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, 5, 5)),
        _tower(*_DOUBLE, Layer("branch3x3dbl_3", 96, 3, 3)),
    )
    return Plan(towers, _average, Layer("branch_pool", pooled))


def _block_b() -> Plan:
    towers = (_tower(Layer("branch3x3", 384, 3, 3, 2)), _tower(*_DOUBLE, Layer("branch3x3dbl_3", 96, 3, 3, 2)))
    return Plan(towers, _halved, None)


def _block_c(inner: int) -> Plan:
    row, column = (1, 7), (7, 1)
    double = (column, row, column, row)
    widths = (inner, inner, inner, 192)
    towers = (
        _tower(Layer("branch1x1", 192)),
        _tower(Layer("branch7x7_1", inner), Layer("branch7x7_2", inner, *row), Layer("branch7x7_3", 192, *column)),
        _tower(
            Layer("branch7x7dbl_1", inner),
            *(Layer(f"branch7x7dbl_{i + 2}", widths[i], *shape) for i, shape in enumerate(double)),
        ),
    )
    return Plan(towers, _average, Layer("branch_pool", 192))


def _block_d() -> Plan:
    towers = (
        _tower(Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, 3, 3, 2)),
        _tower(
            Layer("branch7x7x3_1", 192),
            Layer("branch7x7x3_2", 192, 1, 7),
            Layer("branch7x7x3_3", 192, 7, 1),
            Layer("branch7x7x3_4", 192, 3, 3, 2),
        ),
    )
    return Plan(towers, _halved, None)


def _block_e(pool: Pool) -> Plan:
    def both(name: str) -> tuple[Layer, ...]:
        return Layer(f"{name}a", 384, 1, 3), Layer(f"{name}b", 384, 3, 1)

    towers = (
        _tower(Layer("branch1x1", 320)),
        (*_tower(Layer("branch3x3_1", 384)), both("branch3x3_2")),
        (*_tower(Layer("branch3x3dbl_1", 448), Layer("branch3x3dbl_2", 384, 3, 3)), both("branch3x3dbl_3")),
    )
    return Plan(towers, pool, Layer("branch_pool", 192))


STEM = {
    "Conv2d_1a_3x3": Layer("", 32, 3, 3, 2),
    "Conv2d_2a_3x3": Layer("", 32, 3, 3),
    "Conv2d_2b_3x3": Layer("", 64, 3, 3),
    "Conv2d_3b_1x1": Layer("", 80),
    "Conv2d_4a_3x3": Layer("", 192, 3, 3),
}
_PADDED, _POOLED = ("Conv2d_2b_3x3",), ("Conv2d_2b_3x3", "Conv2d_4a_3x3")  # those with a padding, and before a pool
BLOCKS = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _block_b(),
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _block_d(),
    "Mixed_7b": _block_e(_average),
    "Mixed_7c": _block_e(_highest),
}


class Conv(nnx.Module):
    """A convolution, into which the normalisation after it is folded, and ReLU."""

    def __init__(self, inputs: int, layer: Layer, padding: str, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            inputs,
            layer.width,
            (layer.height, layer.across),
            layer.stride,
            padding=padding,
            precision=jax.lax.Precision.HIGHEST,  # figures of accelerators must be those of CPUs
            rngs=rngs,
        )

    def __call__(self, x: Array) -> Array:
        return jax.nn.relu(self.conv(x))


class Block(nnx.Module):
    """The towers of a plan, joined along channels."""

    def __init__(self, inputs: int, plan: Plan, rngs: nnx.Rngs):
        self.plan, self.width = plan, inputs if plan.after is None else plan.after.width
        for tower in plan.towers:
            channels = inputs
            for step in tower:
                for layer in step:
                    padding = "SAME" if layer.stride == 1 else "VALID"
                    setattr(self, layer.name, Conv(channels, layer, padding, rngs))
                channels = step[-1].width
            self.width += sum(layer.width for layer in tower[-1])
        if plan.after is not None:
            setattr(self, plan.after.name, Conv(inputs, plan.after, "SAME", rngs))

    def __call__(self, x: Array) -> Array:
        outputs = []
        for tower in self.plan.towers:
            seen = [x]
            for step in tower:
                seen = [getattr(self, layer.name)(seen[0]) for layer in step]
            outputs += seen
        pooled = self.plan.pool(x)
        return jnp.concatenate(
            [*outputs, getattr(self, self.plan.after.name)(pooled) if self.plan.after else pooled], -1
        )


class Network(nnx.Module):
    """All layers up to the outputs."""

    def __init__(self, rngs: nnx.Rngs):
        channels = 3
        for name, layer in STEM.items():
            setattr(self, name, Conv(channels, layer, "SAME" if name in _PADDED else "VALID", rngs))
            channels = layer.width
        for name, plan in BLOCKS.items():
            block = Block(channels, plan, rngs)
            setattr(self, name, block)
            channels = block.width
        self.fc = nnx.Linear(channels, OUTPUTS, precision=jax.lax.Precision.HIGHEST, rngs=rngs)

    def __call__(self, x: Float[Array, "B 299 299 3"]) -> tuple[Array, Array, Array]:
        """Features [B, 2048], spatial features [B, 2023] and logits without biases [B, 1008] of images in [-1, 1].

        Biases are left out in the Inception Score of the original code, and so in all that agree with it.
        """
        for name in STEM:
            x = getattr(self, name)(x)
            x = _halved(x) if name in _POOLED else x
        spatial = x
        for name in BLOCKS:
            if name == "Mixed_6d":
                spatial = getattr(self, name).branch1x1(x)[..., :_SPATIAL]
            x = getattr(self, name)(x)
        features = x.mean((1, 2))
        bare = jnp.matmul(features, self.fc.kernel[...], precision=jax.lax.Precision.HIGHEST)
        return features, spatial.reshape(len(x), -1), bare


def _of_tensorflow(x: Array) -> Array:
    return (x - 128) / 128


def _of_pytorch(x: Array) -> Array:
    return x / 255 * 2 - 1


@dataclass(frozen=True)
class Protocol:
    """How images come to the network. The figures of two protocols must not be compared.

    Attributes:
      told: in words.
      matrix: resizes one axis to 299 pixels.
      scaled: turns numbers in [0, 255] into those that the network sees.
    """

    told: str
    matrix: Matrix
    scaled: Callable[[Array], Array]


PROTOCOLS = {
    "adm": Protocol(
        "TensorFlow 1's bilinear resizing to 299 x 299 without antialiasing, (x - 128) / 128, as in ADM",
        tensorflow_bilinear,
        _of_tensorflow,
    ),
    "pytorch-fid": Protocol(
        "PyTorch's bilinear resizing to 299 x 299 without antialiasing, 2 x / 255 - 1, as in pytorch-fid",
        bilinear,
        _of_pytorch,
    ),
}


@jax.jit
def _seen(params: Params, x: Array) -> tuple[Array, Array, Array]:
    return nnx.merge(abstract.graphdef(Network), params)(x)


@dataclass(frozen=True)
class Inception:
    """The network with its weights, which sees images as a protocol says.

    Attributes:
      params: as `abstract_params` has them, float32.
      protocol: the name of one of `PROTOCOLS`.
    """

    params: Params
    protocol: str = "adm"

    def __call__(self, rgb: UInt8[AnyArray, "N H W 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What `Network` computes of images, float32, some at a time."""
        parts = [self._part(rgb[i : i + _BATCH]) for i in range(0, len(rgb), _BATCH)]
        return tuple(np.concatenate(values) for values in zip(*parts, strict=True))  # type: ignore[return-value]

    def _part(self, rgb: AnyArray) -> list[np.ndarray]:
        way = PROTOCOLS[self.protocol]
        x = jnp.asarray(rgb, jnp.float32)
        x = resize(x, SIDE, SIDE, way.matrix) if x.shape[1:3] != (SIDE, SIDE) else x
        most = 1 << (len(rgb) - 1).bit_length()  # a few shapes are compiled, whatever the numbers of images
        padded = jnp.pad(way.scaled(x), ((0, most - len(rgb)), (0, 0), (0, 0), (0, 0)))
        return [np.asarray(value)[: len(rgb)] for value in _seen(self.params, padded)]


@functools.cache
def abstract_params() -> Params:
    """Shapes of the weights."""
    return abstract.params(Network)
