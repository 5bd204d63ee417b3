"""The network of the Stable Diffusion autoencoder (Rombach et al. 2022), channels last.

Attributes are named as in the diffusers library, so that the path of a weight here is its name there.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import FLOAT_MAX, POSITIVE, SWITCH, Rule, each, integer, number, one_of, require

EPSILON = 1e-6
# The blocks of a level of the encoder and of the decoder: without attention, and with it after each residual block.
DOWN = ("DownEncoderBlock2D", "AttnDownEncoderBlock2D")
UP = ("UpDecoderBlock2D", "AttnUpDecoderBlock2D")
_COUNT, _FINITE = integer(1), number(-FLOAT_MAX)
_FIELDS: dict[str, Rule] = {
    **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "layers_per_block", "norm_num_groups"), _COUNT),
    "block_out_channels": Rule(lambda v: each(_COUNT).allows(v) and 0 < len(v) <= 8, "1 to 8 integers of at least 1"),
    "down_block_types": each(one_of(*DOWN)),
    "up_block_types": each(one_of(*UP)),
    "scaling_factor": POSITIVE,
    "shift_factor": Rule(lambda v: v is None or _FINITE.allows(v), "a finite number, or none"),
    "latents_mean": each(_FINITE),
    "latents_std": each(POSITIVE),
    **dict.fromkeys(("use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"), SWITCH),
}


@dataclass(frozen=True)
class KLConfig:
    """The entries of a diffusers `config.json` that matter. The defaults are Stable Diffusion's.

    Attributes:
      in_channels, out_channels: channels of images.
      latent_channels: channels K of latents.
      block_out_channels: width at each resolution, finest first. Every level except the last halves the resolution.
      layers_per_block: residual blocks of each resolution of the encoder; the decoder has one more.
      norm_num_groups: number of groups of all GroupNorms; divides the widths.
      down_block_types: one of `DOWN` for each level of the encoder; () = no attention in any of them.
      up_block_types: one of `UP` for each level of the decoder, the coarsest first; () = no attention in any of them.
      scaling_factor, shift_factor: latents as the transformer sees them are (z - shift) * scaling.
      latents_mean, latents_std: of each latent channel, in place of the shift: (z - mean) * scaling / std; () = none.
      use_quant_conv, use_post_quant_conv: 1 x 1 convolutions around the latents.
      mid_block_add_attention: attention at the coarsest resolution.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    down_block_types: tuple[str, ...] = ()
    up_block_types: tuple[str, ...] = ()
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] = ()
    latents_std: tuple[float, ...] = ()
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    def __post_init__(self):
        for name, rule in _FIELDS.items():
            require(name, getattr(self, name), rule)
        for width in self.block_out_channels:
            if width % self.norm_num_groups:
                raise UsageError(
                    f"block_out_channels has {width}; allowed: multiples of norm_num_groups = {self.norm_num_groups}"
                )
        levels = ("the length of block_out_channels", len(self.block_out_channels))
        for name, (what, length) in {
            "down_block_types": levels,
            "up_block_types": levels,
            "latents_mean": ("latent_channels", self.latent_channels),
            "latents_std": ("latent_channels", self.latent_channels),
        }.items():
            if len(getattr(self, name)) not in (0, length):
                raise UsageError(f"{name} has {len(getattr(self, name))} entries; allowed: {what} = {length}")
        if bool(self.latents_mean) != bool(self.latents_std):
            given, absent = ("mean", "std") if self.latents_mean else ("std", "mean")
            raise UsageError(f"it has latents_{given} and no latents_{absent}; allowed: both, or none")
        if self.latents_mean and self.shift_factor:
            raise UsageError(
                f"it has latents_mean and shift_factor = {self.shift_factor}, which are two ways to say the same; "
                "allowed: one of them, the other null"
            )

    @property
    def factor(self) -> int:
        """Pixels per latent position, each way."""
        return 2 ** (len(self.block_out_channels) - 1)

    @property
    def normalization(self) -> tuple[float | np.ndarray, float | np.ndarray]:
        """Shift and scale, each a number or [K]: latents as the transformer sees them are (z - shift) * scale."""
        if self.latents_std:
            mean, std = (np.asarray(x, np.float32) for x in (self.latents_mean, self.latents_std))
            return mean, (self.scaling_factor / std).astype(np.float32)
        return self.shift_factor or 0.0, self.scaling_factor


class Blocks:
    """Makes layers of one type of arithmetic; parameters are float32."""

    def __init__(self, config: KLConfig, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.config, self.dtype, self.rngs = config, dtype, rngs

    def conv(self, inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nnx.Conv:
        padding = ((0, 1), (0, 1)) if stride == 2 else ((size // 2,) * 2,) * 2
        return nnx.Conv(
            inputs, outputs, (size, size), strides=stride, padding=padding, dtype=self.dtype, rngs=self.rngs
        )

    def norm(self, width: int) -> nnx.GroupNorm:
        groups = self.config.norm_num_groups
        return nnx.GroupNorm(width, groups, epsilon=EPSILON, dtype=self.dtype, rngs=self.rngs)

    def linear(self, width: int) -> nnx.Linear:
        return nnx.Linear(width, width, dtype=self.dtype, rngs=self.rngs)


class Resnet(nnx.Module):
    def __init__(self, make: Blocks, inputs: int, outputs: int):
        self.norm1, self.conv1 = make.norm(inputs), make.conv(inputs, outputs)
        self.norm2, self.conv2 = make.norm(outputs), make.conv(outputs, outputs)
        self.conv_shortcut = make.conv(inputs, outputs, 1) if inputs != outputs else None

    def __call__(self, x: Array) -> Array:
        h = self.conv1(jax.nn.silu(self.norm1(x)))
        h = self.conv2(jax.nn.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nnx.Module):
    """Self-attention with one head over all positions; the softmax is float32."""

    def __init__(self, make: Blocks, width: int):
        self.group_norm = make.norm(width)
        self.to_q, self.to_k, self.to_v = (make.linear(width) for _ in range(3))
        self.to_out = nnx.List([make.linear(width)])

    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        tokens = self.group_norm(x).reshape(b, 1, h * w, c)  # one head
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        scores = jnp.einsum("bnqc,bnkc->bnqk", q, k, preferred_element_type=jnp.float32) * c**-0.5
        out = jnp.einsum("bnqk,bnkc->bnqc", jax.nn.softmax(scores).astype(v.dtype), v)
        return x + self.to_out[0](out).reshape(b, h, w, c)


class Resampler(nnx.Module):
    """The convolution before or after a change of resolution."""

    def __init__(self, conv: nnx.Conv):
        self.conv = conv


class Level(nnx.Module):
    """The residual blocks of one resolution, with attention after each of them or without.

    Behind them is the layer that changes the resolution, if it is not the last level.
    """

    downsamplers: nnx.List
    upsamplers: nnx.List

    def __init__(self, make: Blocks, inputs: int, outputs: int, layers: int, attention: bool):
        widths = [inputs] + [outputs] * (layers - 1)
        self.resnets = nnx.List([Resnet(make, width, outputs) for width in widths])
        self.attentions = nnx.List([Attention(make, outputs) for _ in range(layers if attention else 0)])

    def __call__(self, x: Array) -> Array:
        for i, resnet in enumerate(self.resnets):
            x = resnet(x)
            if self.attentions:
                x = self.attentions[i](x)
        return x


class Middle(nnx.Module):
    def __init__(self, make: Blocks, width: int):
        self.resnets = nnx.List([Resnet(make, width, width) for _ in range(2)])
        self.attentions = nnx.List([Attention(make, width)] if make.config.mid_block_add_attention else [])

    def __call__(self, x: Array) -> Array:
        x = self.resnets[0](x)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x)


class Encoder(nnx.Module):
    def __init__(self, make: Blocks):
        c = make.config
        widths = c.block_out_channels
        self.conv_in = make.conv(c.in_channels, widths[0])
        levels: list[Level] = []
        attention = [kind == DOWN[1] for kind in c.down_block_types or DOWN[:1] * len(widths)]
        for inputs, outputs, attends in zip((widths[0], *widths[:-1]), widths, attention, strict=True):
            level = Level(make, inputs, outputs, c.layers_per_block, attends)
            if len(levels) < len(widths) - 1:
                level.downsamplers = nnx.List([Resampler(make.conv(outputs, outputs, stride=2))])
            levels.append(level)
        self.down_blocks = nnx.List(levels)
        self.mid_block = Middle(make, widths[-1])
        self.conv_norm_out = make.norm(widths[-1])
        self.conv_out = make.conv(widths[-1], 2 * c.latent_channels)

    def __call__(self, x: Array) -> Array:
        x = self.conv_in(x)
        for level in self.down_blocks:
            x = level(x)
            if hasattr(level, "downsamplers"):
                x = level.downsamplers[0].conv(x)
        return self.conv_out(jax.nn.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nnx.Module):
    def __init__(self, make: Blocks):
        c = make.config
        widths = c.block_out_channels[::-1]
        self.conv_in = make.conv(c.latent_channels, widths[0])
        self.mid_block = Middle(make, widths[0])
        levels: list[Level] = []
        attention = [kind == UP[1] for kind in c.up_block_types or UP[:1] * len(widths)]
        for inputs, outputs, attends in zip((widths[0], *widths[:-1]), widths, attention, strict=True):
            level = Level(make, inputs, outputs, c.layers_per_block + 1, attends)
            if len(levels) < len(widths) - 1:
                level.upsamplers = nnx.List([Resampler(make.conv(outputs, outputs))])
            levels.append(level)
        self.up_blocks = nnx.List(levels)
        self.conv_norm_out = make.norm(widths[-1])
        self.conv_out = make.conv(widths[-1], c.out_channels)

    def __call__(self, z: Array) -> Array:
        x = self.mid_block(self.conv_in(z))
        for level in self.up_blocks:
            x = level(x)
            if hasattr(level, "upsamplers"):
                x = level.upsamplers[0].conv(x.repeat(2, axis=1).repeat(2, axis=2))
        return self.conv_out(jax.nn.silu(self.conv_norm_out(x)))


class KLNetwork(nnx.Module):
    """Encoder and decoder. Images are [B, H, W, C], with H and W divisible by the factor."""

    def __init__(self, config: KLConfig, dtype: str, *, rngs: nnx.Rngs):
        make, k = Blocks(config, jnp.dtype(dtype), rngs), config.latent_channels
        self.encoder, self.decoder = Encoder(make), Decoder(make)
        self.quant_conv = make.conv(2 * k, 2 * k, 1) if config.use_quant_conv else None
        self.post_quant_conv = make.conv(k, k, 1) if config.use_post_quant_conv else None

    def moments(self, images: Float[Array, "B H W C"]) -> Float[Array, "B h w K2"]:
        """Computes mean and standard deviation of the posterior, float32, the mean first."""
        x = self.encoder(images)
        x = (x if self.quant_conv is None else self.quant_conv(x)).astype(jnp.float32)
        mean, log_variance = jnp.split(x, 2, -1)
        return jnp.concatenate([mean, jnp.exp(0.5 * jnp.clip(log_variance, -30.0, 20.0))], -1)

    def decode(self, z: Float[Array, "B h w K"]) -> Float[Array, "B H W C"]:
        """Decodes latents to images, float32, which are not clipped."""
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z)).astype(jnp.float32)
