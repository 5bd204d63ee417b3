"""Building blocks of the transformer: embeddings, adaLN-Zero blocks, heads.

They follow SiT / DiT (Peebles & Xie 2023, section 3) as MMGen uses them. Parameters are float32, and matrices are
multiplied in the compute type. Small and sensitive parts (times, conditioning, heads) compute in float32.
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from mmgen_jax.models.attention import Attention
from mmgen_jax.parallel.placement import Placement, Spread, spread
from mmgen_jax.parallel.precision import precision_of

XAVIER = nnx.initializers.xavier_uniform()
ZEROS = nnx.initializers.zeros_init()
LN_EPS = 1e-6
TIME_FREQUENCIES = 128
SCALE_FREQUENCIES = (0.25, 0.5, 1.0, 2.0)  # of the logarithm of scales of guidance
GELU_SLOPE = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715


def linear(n_in: int, n_out: int, rngs: nnx.Rngs, dtype=jnp.float32, init=XAVIER) -> nnx.Linear:
    """Makes a linear layer with float32 parameters and a bias of zeros, which multiplies in `dtype`."""
    return nnx.Linear(n_in, n_out, dtype=dtype, kernel_init=init, precision=precision_of(dtype), rngs=rngs)


def patchify(x: jax.Array, patch: int) -> jax.Array:
    """Cuts [B, H, W, C] into tokens [B, H/p * W/p, p*p*C], each in the order (patch row, patch column, channel)."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def unpatchify(tokens: jax.Array, patch: int, height: int, width: int) -> jax.Array:
    """Joins tokens to an image of height x width; the inverse of `patchify`."""
    b = tokens.shape[0]
    x = tokens.reshape(b, height // patch, width // patch, patch, patch, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height, width, -1)


def position_embedding(rows: int, columns: int, width: int) -> np.ndarray:
    """The fixed 2D sin-cos embedding of MAE, float32 [rows*columns, width]: half for the column, half for the row."""
    omega = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width // 4))
    y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    angles = [position.reshape(-1, 1) * omega for position in (x, y)]
    return np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1).astype(np.float32)


def time_features(t: jax.Array) -> jax.Array:
    """Sinusoids [..., 256] of times [...] in [0, 1], which are not scaled by 1000: cosines first, then sines."""
    frequencies = jnp.exp(-math.log(10000) / TIME_FREQUENCIES * jnp.arange(TIME_FREQUENCIES, dtype=jnp.float32))
    angles = t[..., None].astype(jnp.float32) * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1)


def _gelu_gate(x: jax.Array) -> jax.Array:
    return 0.5 + 0.5 * jnp.tanh(x * (GELU_SLOPE + GELU_SLOPE * GELU_CUBIC * (x * x)))


@jax.custom_jvp
def gelu(x: jax.Array) -> jax.Array:
    """GELU in its tanh approximation, x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.

    The derivative is written out because the automatic one keeps five arrays of the MLP's width for the backward pass
    instead of one. It is factored because vector units limit its speed. A `custom_jvp` works in both modes.
    """
    return x * _gelu_gate(x)


@gelu.defjvp
def _gelu_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    gate = _gelu_gate(x)
    inner = 2 * GELU_SLOPE + 6 * GELU_SLOPE * GELU_CUBIC * (x * x)
    return x * gate, gate * (1 + x * (1 - gate) * inner) * dx


def _normalised(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what `normalise` returns, and the float32 factor [..., 1] by which it scales."""
    y = x.astype(jnp.float32)
    mean = y.mean(-1, keepdims=True)
    # In this form, the compiler computes both sums while it writes x, without another pass over x.
    variance = jnp.maximum(jnp.square(y).mean(-1, keepdims=True) - jnp.square(mean), 0)
    scale = jax.lax.rsqrt(variance + LN_EPS)
    return ((y - mean) * scale).astype(x.dtype), scale


@jax.custom_jvp
def normalise(x: jax.Array) -> jax.Array:
    """LayerNorm without affine parameters over the last axis, statistics in float32, result in x's type.

    The derivative is written out, as it needs two sums over each token at once; the automatic derivative computes three
    sums, one after another.
    """
    return _normalised(x)[0]


@normalise.defjvp
def _normalise_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    out, scale = _normalised(x)
    y, dy = out.astype(jnp.float32), dx.astype(jnp.float32) * scale
    slope = dy - dy.mean(-1, keepdims=True) - y * (y * dy).mean(-1, keepdims=True)
    return out, slope.astype(x.dtype)


def modulate(x: jax.Array, shift: jax.Array, scale: jax.Array, spread: Spread = spread) -> jax.Array:
    """x (1 + scale) + shift for tokens x [B, T, D] with shift and scale [B, D], which `spread` repeats."""
    return x * (1 + spread(scale, x)) + spread(shift, x)


class TimeEmbedder(nnx.Module):
    """Embeds the times of all modalities as one vector: [B, M] -> [B, width]."""

    def __init__(self, width: int, modalities: int, *, rngs: nnx.Rngs):
        layer = partial(linear, rngs=rngs, init=nnx.initializers.normal(0.02))
        self.inner = layer(2 * TIME_FREQUENCIES, width)
        self.inner_out = layer(width, width // 2)
        self.fused = layer(modalities * (width // 2), width)
        self.fused_out = layer(width, width)

    def __call__(self, t: jax.Array) -> jax.Array:
        each = self.inner_out(jax.nn.silu(self.inner(time_features(t))))
        return self.fused_out(jax.nn.silu(self.fused(each.reshape(t.shape[0], -1))))


class ScaleEmbedder(nnx.Module):
    """Embeds scales of guidance: [B], at least 1 -> [B, width]. A scale of 1 is 0, whatever the weights are.

    The network begins as one that does not look at the scale, as the weights begin at 0.
    """

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        init = nnx.initializers.zeros
        self.linear = nnx.Linear(2 * len(SCALE_FREQUENCIES), width, use_bias=False, kernel_init=init, rngs=rngs)

    def __call__(self, scale: jax.Array) -> jax.Array:
        angles = jnp.log(scale.astype(jnp.float32))[:, None] * jnp.asarray(SCALE_FREQUENCIES)
        return self.linear(jnp.concatenate([jnp.sin(angles), 1 - jnp.cos(angles)], -1))


class BlockLayers(nnx.Module):
    """Base of blocks: computes with their linear layers, which are attributes, by their names."""

    def product(self, placement: Placement, name: str, x: jax.Array, equation: str = "btd,de->bte") -> jax.Array:
        """Multiplies with the kernel of a layer in its type, without its bias."""
        layer = getattr(self, name)
        return placement.product(name, equation, x.astype(layer.dtype), layer.kernel[...])

    def biased(self, placement: Placement, name: str, out: jax.Array) -> jax.Array:
        """Adds the bias of a layer to what `product` returned."""
        return out + placement.spread(self.stored_bias(name), out)

    def stored_bias(self, name: str) -> jax.Array:
        return getattr(self, name).bias[...]

    def modulation(self, placement: Placement, condition: jax.Array) -> list[jax.Array]:
        """Shift, scale and gate [B, D] of attention, then those of the MLP, from silu(condition) [B, D]."""
        out = self.product(placement, "adaln", condition, "bd,de->be")
        return jnp.split(self.biased(placement, "adaln", out), 6, -1)


class Block(BlockLayers):
    """adaLN-Zero transformer block of SiT: tokens [B, T, D] and silu(condition) [B, D] -> tokens."""

    def __init__(self, width: int, mlp_width: int, dtype, *, rngs: nnx.Rngs):
        self.adaln = linear(width, 6 * width, rngs, dtype, ZEROS)
        self.qkv = linear(width, 3 * width, rngs, dtype)
        self.proj = linear(width, width, rngs, dtype)
        self.fc1 = linear(width, mlp_width, rngs, dtype)
        self.fc2 = linear(mlp_width, width, rngs, dtype)

    def __call__(
        self,
        x: jax.Array,
        memory: None,
        is_first: jax.Array,
        condition: jax.Array,
        heads: int,
        attend: Attention,
        placement: Placement,
    ) -> tuple[jax.Array, None]:
        """Computes the block. `heads` is the number of heads on this device, which may be a part of all heads.

        Blocks of this kind hand nothing on to later ones besides the tokens: there is no `memory`, and the first is as
        the others.
        """
        del is_first
        product, biased = partial(self.product, placement), partial(self.biased, placement)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(placement, condition)
        inner = placement.share(modulate(normalise(x), shift_a, scale_a, placement.spread))
        mixed = attend(partial(product, "qkv", inner), self.stored_bias("qkv"), heads, placement.spread)
        out = checkpoint_name(biased("proj", placement.join(product("proj", mixed))), "proj")
        x = x + placement.spread(gate_a, x) * out
        inner = placement.share(modulate(normalise(x), shift_m, scale_m, placement.spread))
        hidden = checkpoint_name(biased("fc1", product("fc1", inner)), "mlp_in")
        out = checkpoint_name(biased("fc2", placement.join(product("fc2", gelu(hidden)))), "mlp_out")
        return x + placement.spread(gate_m, x) * out, memory


class Head(nnx.Module):
    """Final layer of one modality, float32: normalised tokens [B, T, D], silu(condition) [B, D] -> [B, T, p*p*C]."""

    def __init__(self, width: int, out: int, *, rngs: nnx.Rngs):
        self.adaln = linear(width, 2 * width, rngs, init=ZEROS)
        self.linear = linear(width, out, rngs, init=ZEROS)

    def __call__(self, normalised: jax.Array, condition: jax.Array) -> jax.Array:
        shift, scale = jnp.split(self.adaln(condition), 2, -1)
        return self.linear(modulate(normalised, shift, scale))
