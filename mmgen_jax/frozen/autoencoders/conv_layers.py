"""The network of the convolutional autoencoder: residual 3 x 3 convolutions at a quarter of the resolution and below.

Pixels of 4 x 4 are moved into channels first, as convolutions of few channels at full resolution are slow on every
machine. Each halving of the resolution after that doubles the width. Nothing looks at a whole image, so that images of
any size that the factor divides are encoded alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from mmgen_jax.frozen.autoencoders.patches import depth_to_space, space_to_depth
from mmgen_jax.parallel.precision import precision_of
from mmgen_jax.system.errors import UsageError

COLOURS = 3  # channels of images as the network sees them; a single channel is repeated
STEM = 4  # pixels each way that become one position at the finest resolution
FINE = 16  # channels at full resolution, where the decoder draws edges
FACTORS = tuple(2**n for n in range(1, 7))


@dataclass(frozen=True)
class ConvConfig:
    """The shapes of the network.

    Attributes:
      modalities: those that it knows; each has a linear map of patches and a vector of its own in encoder and decoder,
        all else is shared.
      factor: pixels per latent position, each way; one of `FACTORS`.
      width: channels at the finest resolution, twice as many after each halving.
      blocks: residual blocks at each resolution, in the encoder and in the decoder.
      channels: latent channels K.
    """

    modalities: tuple[str, ...]
    factor: int
    width: int
    blocks: int
    channels: int

    def __post_init__(self):
        if self.factor not in FACTORS:
            allowed = ", ".join(map(str, FACTORS))
            raise UsageError(f"config key autoencoder.factor is {self.factor}; the factors of conv are {allowed}")

    @property
    def stem(self) -> int:
        """Pixels each way that become one position of the finest resolution."""
        return min(STEM, self.factor)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each resolution, the finest first."""
        return tuple(self.width * 2**i for i in range((self.factor // self.stem).bit_length()))


class Make:
    """Makes layers that multiply in one type; parameters are float32, and so are products of float32."""

    def __init__(self, dtype: str, rngs: nnx.Rngs):
        self.dtype, self.rngs = jnp.dtype(dtype), rngs
        self.precision = precision_of(dtype)

    def conv(self, inputs: int, outputs: int, size: int = 3, gain: float = 1.0, bias: bool = True) -> nnx.Conv:
        """A convolution over `size` x `size` positions, with zeros around; `gain` 0 lets it begin as zero."""
        return nnx.Conv(
            inputs,
            outputs,
            (size, size),
            padding=size // 2,
            use_bias=bias,
            dtype=self.dtype,
            precision=self.precision,
            kernel_init=nnx.initializers.variance_scaling(gain, "fan_in", "truncated_normal")
            if gain
            else nnx.initializers.zeros,
            rngs=self.rngs,
        )

    def norm(self, width: int) -> nnx.RMSNorm:
        """Divides the channels of each position by their root mean square."""
        return nnx.RMSNorm(width, dtype=self.dtype, rngs=self.rngs)


class Block(nnx.Module):
    """x + conv(silu(conv(norm(x)))), at first x alone."""

    def __init__(self, make: Make, width: int):
        self.norm, self.conv1, self.conv2 = make.norm(width), make.conv(width, width), make.conv(width, width, gain=0)

    def __call__(self, x: Array) -> Array:
        return x + self.conv2(jax.nn.silu(self.conv1(self.norm(x))))


class Stage(nnx.Module):
    """The residual blocks of one resolution."""

    def __init__(self, make: Make, width: int, blocks: int):
        self.blocks = nnx.List([Block(make, width) for _ in range(blocks)])

    def __call__(self, x: Array) -> Array:
        for block in self.blocks:
            x = block(x)
        return x


class Shift(nnx.Module):
    """The vector that is added to the channels of one modality."""

    def __init__(self, width: int):
        self.bias = nnx.Param(jnp.zeros(width))


def _shifted(x: Float[Array, "N h w C"], shifts: nnx.Dict, names: Sequence[str]) -> Float[Array, "N h w C"]:
    """Adds the vector of its modality to each image; images are sorted by sample, then by modality as `names`."""
    vectors = jnp.stack([shifts[m].bias[...] for m in names]).astype(x.dtype)
    return (x.reshape(-1, len(names), *x.shape[1:]) + vectors[:, None, None]).reshape(x.shape)


def _linear(x: Float[Array, "N h w C"], maps: nnx.Dict, names: Sequence[str]) -> Float[Array, "N h w D"]:
    """Maps the positions of each image by the linear map of its modality; images are sorted as in `_shifted`."""
    apart = x.reshape(-1, len(names), *x.shape[1:])
    mapped = jnp.stack([maps[m](apart[:, i]) for i, m in enumerate(names)], 1)
    return mapped.reshape(-1, *mapped.shape[2:])


class Encoder(nnx.Module):
    """Images [N, H, W, 3] -> latents [N, H/f, W/f, K], which are not normalised."""

    def __init__(self, make: Make, config: ConvConfig):
        widths, self.config = config.widths, config
        self.stem = make.conv(COLOURS * config.stem**2, widths[0])
        self.modality = nnx.Dict({m: Shift(widths[0]) for m in config.modalities})
        self.stages = nnx.List([Stage(make, width, config.blocks) for width in widths])
        self.downs = nnx.List([make.conv(4 * width, 2 * width, 1) for width in widths[:-1]])
        self.norm, self.out = make.norm(widths[-1]), make.conv(widths[-1], config.channels, 1, gain=0, bias=False)
        numbers = COLOURS * config.factor**2
        self.linear = nnx.Dict({m: make.conv(numbers, config.channels, 1) for m in config.modalities})

    def __call__(self, x: Array, names: Sequence[str]) -> Array:
        linear = _linear(space_to_depth(x, self.config.factor), self.linear, names)
        x = _shifted(self.stem(space_to_depth(x, self.config.stem)), self.modality, names)
        for i, stage in enumerate(self.stages):
            x = stage(self.downs[i - 1](space_to_depth(x, 2)) if i else x)
        return linear + self.out(self.norm(x))


class Decoder(nnx.Module):
    """Latents [N, H/f, W/f, K] -> images [N, H, W, 3], which are not clipped."""

    def __init__(self, make: Make, config: ConvConfig):
        widths, self.config = config.widths[::-1], config
        self.stem = make.conv(config.channels, widths[0])
        self.modality = nnx.Dict({m: Shift(widths[0]) for m in config.modalities})
        self.stages = nnx.List([Stage(make, width, config.blocks) for width in widths])
        self.ups = nnx.List([make.conv(width, 2 * width, 1) for width in widths[:-1]])
        self.norm, self.fine = make.norm(widths[-1]), make.conv(widths[-1], FINE * config.stem**2, 1)
        # What the linear maps draw is looked at again, as edges ring in it, and colours of regions are few.
        self.drawn, self.edges = make.conv(COLOURS, FINE), Stage(make, FINE, config.blocks)
        self.out = make.conv(FINE, COLOURS, gain=0)
        numbers = COLOURS * config.factor**2
        self.linear = nnx.Dict({m: make.conv(config.channels, numbers, 1, gain=0) for m in config.modalities})

    def __call__(self, z: Array, names: Sequence[str]) -> Array:
        x = _shifted(self.stem(z), self.modality, names)
        for i, stage in enumerate(self.stages):
            x = stage(depth_to_space(self.ups[i - 1](x), 2) if i else x)
        linear = depth_to_space(_linear(z, self.linear, names), self.config.factor)
        x = depth_to_space(self.fine(self.norm(x)), self.config.stem) + self.drawn(linear)
        return linear + self.out(self.edges(x))


class ConvNetwork(nnx.Module):
    """Encoder and decoder, each with linear maps of patches beside it, so that the rest only has to add to those.

    Both take images or latents of samples and modalities, [B, M, ...] with the modalities `names`; all is float32.
    """

    def __init__(self, config: ConvConfig, dtype: str, *, rngs: nnx.Rngs):
        make = Make(dtype, rngs)
        self.encoder, self.decoder = Encoder(make, config), Decoder(make, config)

    def encode(self, images: Float[Array, "B M H W 3"], names: Sequence[str]) -> Float[Array, "B M h w K"]:
        """Latents before normalisation."""
        z = self.encoder(images.reshape(-1, *images.shape[2:]), names)
        return z.astype(jnp.float32).reshape(*images.shape[:2], *z.shape[1:])

    def decode(self, latents: Float[Array, "B M h w K"], names: Sequence[str]) -> Float[Array, "B M H W 3"]:
        """Images of latents as `encode` gives them."""
        x = self.decoder(latents.reshape(-1, *latents.shape[2:]), names)
        return x.astype(jnp.float32).reshape(*latents.shape[:2], *x.shape[1:])
