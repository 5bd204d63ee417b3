"""Tiny decoders of the latents of released autoencoders (TAESD and its kin), which are fast enough for previews.

https://github.com/madebyollin/taesd. They were trained to draw what the full decoder draws, and cannot encode. Layers
are numbered as in diffusers' `AutoencoderTiny`, so that the path of a weight here is its name there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float

from mmgen_jax.frozen import abstract, torch_names
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import POSITIVE, number, require
from mmgen_jax.tensor_files import fit, hub, states, tensors

ANCHORS = ("decoder.layers.0.weight", "1.weight")  # of diffusers, and of the original files of the decoder alone
ONLY = {  # entry of a config -> the value that this network supports
    "_class_name": "AutoencoderTiny",
    "act_fn": "relu",
    "upsample_fn": "nearest",
    "upsampling_scaling_factor": 2,
}
_DIFFUSERS, _NUMBER = "decoder.layers.", re.compile(r"(\d+)\.")
_LARGEST = 3.0  # latents are squeezed to below this


@dataclass(frozen=True)
class TinyConfig:
    """Shapes of the network, as those of its weights tell them, and how latents become its own.

    Attributes:
      latent_channels: channels K of latents.
      width: channels of all layers between latents and image.
      blocks: number of residual blocks at each resolution, coarsest first. All except the last double the resolution.
      scaling_factor, shift_factor: latents are multiples of the network's, z / scaling + shift. The released networks
        take latents as a transformer makes them.
    """

    latent_channels: int = 4
    width: int = 64
    blocks: tuple[int, ...] = (3, 3, 3, 1)
    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    @property
    def factor(self) -> int:
        """Pixels per latent position, each way."""
        return 2 ** (len(self.blocks) - 1)


class Relu(nnx.Module):
    def __call__(self, x: Array) -> Array:
        return jax.nn.relu(x)


class Upsample(nnx.Module):
    def __call__(self, x: Array) -> Array:
        return x.repeat(2, axis=1).repeat(2, axis=2)


class Block(nnx.Module):
    def __init__(self, convs: Sequence[nnx.Conv]):
        first, second, third = convs
        self.conv = nnx.List([first, Relu(), second, Relu(), third])

    def __call__(self, x: Array) -> Array:
        return jax.nn.relu(_through(self.conv, x) + x)


class TinyNetwork(nnx.Module):
    """The decoder: latents as the network sees them -> images in about [-1, 1], which are not clipped."""

    def __init__(self, config: TinyConfig, dtype: str, *, rngs: nnx.Rngs):
        width = config.width

        def conv(inputs: int, outputs: int, bias: bool = True) -> nnx.Conv:
            return nnx.Conv(inputs, outputs, (3, 3), use_bias=bias, dtype=jnp.dtype(dtype), rngs=rngs)

        layers: list[nnx.Module] = [conv(config.latent_channels, width), Relu()]
        for i, count in enumerate(config.blocks):
            layers += [Block([conv(width, width) for _ in range(3)]) for _ in range(count)]
            last = i == len(config.blocks) - 1
            layers += [conv(width, 3)] if last else [Upsample(), conv(width, width, bias=False)]
        self.layers = nnx.List(layers)

    def __call__(self, z: Float[Array, "B h w K"]) -> Float[Array, "B H W 3"]:
        x = _through(self.layers, jnp.tanh(z / _LARGEST) * _LARGEST)
        return x.astype(jnp.float32) * 2 - 1


def _through(layers: nnx.List, x: Array) -> Array:
    for layer in layers:
        x = layer(x)
    return x


@functools.partial(jax.tree_util.register_dataclass, data_fields=("params",), meta_fields=("config", "dtype"))
@dataclass(frozen=True)
class TinyDecoder:
    """A tiny decoder with its weights.

    Attributes:
      config: its shapes, and how it takes latents.
      params: its float32 weights.
      dtype: type that matrices are multiplied in, "float32" or "bfloat16".
    """

    config: TinyConfig
    params: Params
    dtype: str = "float32"

    def __call__(self, latents: Float[Array, "B h w K"]) -> Float[Array, "B H W 3"]:
        """Latents as the transformer sees them -> images in about [-1, 1], which are not clipped."""
        network = nnx.merge(abstract.graphdef(TinyNetwork, self.config, self.dtype), self.params)
        return network(latents / self.config.scaling_factor + self.config.shift_factor)


def load(path: epath.PathLike, dtype: str = "float32") -> TinyDecoder:
    """Reads the decoder of a diffusers folder or hub id of an `AutoencoderTiny`, or of an original file.

    Original files are those of the decoder alone, `taesd_decoder.pth` or .safetensors, `taef1_decoder.pth` and so on.
    Raises UsageError if there is no such decoder, or for the first weight or entry of a config that does not fit.
    """
    file = hub.weights_file(hub.resolve(path, hub.FILES))
    state = _numbered(states.read(tensors.read(file), ANCHORS, file))
    stored = hub.config(file.parent) or {}
    for key, allowed in ONLY.items():
        if stored.get(key, allowed) != allowed:
            raise UsageError(f"{file.parent / hub.CONFIG}: {key} is {stored[key]!r}; allowed: {allowed}")
    scaling = {"scaling_factor": POSITIVE, "shift_factor": number(-np.finfo(np.float32).max.item())}
    for key, rule in scaling.items():
        require(f"{file.parent / hub.CONFIG}: {key}", stored.get(key, getattr(TinyConfig(), key)), rule)
    config = _config(state, {key: stored[key] for key in scaling if key in stored}, file)
    params = torch_names.from_torch(state, abstract.params(TinyNetwork, config, "float32"), file)
    return TinyDecoder(config, params, dtype)


def _numbered(found: states.Network) -> dict[str, np.ndarray]:
    """The weights of the decoder alone, by their names in this network."""
    if any(name.startswith(_DIFFUSERS) for name in found.weights):
        names = {"layers." + n.removeprefix(_DIFFUSERS): n for n in found.weights if n.startswith(_DIFFUSERS)}
    else:  # the first layer there squeezes the latents
        names = {_NUMBER.sub(lambda m: f"layers.{int(m[1]) - 1}.", n, count=1): n for n in found.weights}
    return {new: found.weights[old] for new, old in names.items()}


def _config(state: Mapping[str, np.ndarray], scaling: Mapping[str, float], source: object) -> TinyConfig:
    """The shapes of the network, as the weights tell them; those that contradict it are found when it is filled."""
    width, channels = fit.shape_of(state, "layers.0.weight", 4, source)[:2]
    blocks = [0]
    for layer in sorted({int(m[1]) for name in state if (m := re.match(r"layers\.(\d+)\.", name))} - {0}):
        if f"layers.{layer}.weight" in state:
            blocks.append(0)
        else:
            blocks[-1] += 1
    return TinyConfig(channels, width, tuple(blocks[:-1]), **scaling)
