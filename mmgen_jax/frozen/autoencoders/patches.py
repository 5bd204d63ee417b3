"""Moves the pixels of each patch into channels, and back."""

from __future__ import annotations

from jaxtyping import Float

from mmgen_jax.system.arrays import A


def space_to_depth(x: Float[A, "B H W C"], factor: int) -> Float[A, "B h w K"]:
    """[B, H, W, C] -> [B, H/f, W/f, f*f*C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return x.swapaxes(2, 3).reshape(b, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Float[A, "B h w K"], factor: int) -> Float[A, "B H W C"]:
    """Inverse of `space_to_depth`."""
    b, h, w, k = x.shape
    x = x.reshape(b, h, w, factor, factor, k // factor**2).swapaxes(2, 3)
    return x.reshape(b, h * factor, w * factor, k // factor**2)
