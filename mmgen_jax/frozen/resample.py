"""Resizes as PyTorch's `interpolate` does. Resizing is separable, so it takes one small matrix for each axis."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmgen_jax.system.arrays import AnyArray

Matrix = Callable[[int, int], np.ndarray]  # (old length, new length) -> [new, old], rows add up to 1


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """The cubic convolution kernel of Keys (1981), with parameter `a`."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _taps(positions: np.ndarray, weights: np.ndarray, old: int) -> np.ndarray:
    """Matrix whose row i has `weights[i, k]` at column `positions[i, k]`; columns are clipped to the matrix."""
    matrix = np.zeros((len(positions), old))
    rows = np.arange(len(positions))[:, None].repeat(positions.shape[1], 1)
    np.add.at(matrix, (rows, np.clip(positions, 0, old - 1)), weights)
    return matrix


def bicubic(old: int, new: int) -> np.ndarray:
    """The matrix of mode="bicubic" without antialiasing: a = -0.75, four taps."""
    return _four_taps((np.arange(new) + 0.5) * old / new - 0.5, old)


def offset_bicubic(old: int, new: int) -> np.ndarray:
    """The matrix of mode="bicubic" with scale_factor=(new + 0.1) / old, as DINOv2's own code resizes its positions."""
    return _four_taps((np.arange(new) + 0.5) * old / (new + 0.1) - 0.5, old)


def _four_taps(source: np.ndarray, old: int) -> np.ndarray:
    first = np.floor(source).astype(int)
    offsets = np.arange(-1, 3)
    return _taps(first[:, None] + offsets, _cubic((source - first)[:, None] - offsets, -0.75), old)


def smooth_bicubic(old: int, new: int) -> np.ndarray:
    """The matrix of mode="bicubic", antialias=True, and of Pillow's BICUBIC: a = -0.5, as wide as the new pixels."""
    scale = old / new
    stretch = max(scale, 1.0)
    centre = (np.arange(new) + 0.5) * scale
    low = np.maximum((centre - 2 * stretch + 0.5).astype(int), 0)
    high = np.minimum((centre + 2 * stretch + 0.5).astype(int), old)
    columns = np.arange(old)
    weights = _cubic((columns - centre[:, None] + 0.5) / stretch, -0.5)
    weights = np.where((columns >= low[:, None]) & (columns < high[:, None]), weights, 0.0)
    return weights / weights.sum(1, keepdims=True)


def bilinear(old: int, new: int) -> np.ndarray:
    """The matrix of mode="bilinear", align_corners=False, without antialiasing."""
    return _linear(np.maximum((np.arange(new) + 0.5) * old / new - 0.5, 0), old)


def corner_bilinear(old: int, new: int) -> np.ndarray:
    """The matrix of mode="bilinear", align_corners=True: the first and the last pixel stay where they are."""
    step = np.float32(old - 1) / np.float32(max(new - 1, 1)) if new > 1 else np.float32(0)
    return _linear(np.arange(new, dtype=np.float32) * step, old)  # PyTorch computes positions in float32 too


def tensorflow_bilinear(old: int, new: int) -> np.ndarray:
    """The matrix of TensorFlow 1's ResizeBilinear: as `bilinear`, but positions count from corners, not centres."""
    return _linear(np.arange(new, dtype=np.float32) * np.float32(old / new), old)  # in float32, as there


def _linear(source: np.ndarray, old: int) -> np.ndarray:
    first = np.floor(source).astype(int)
    part = (source - first)[:, None]
    return _taps(first[:, None] + np.arange(2), np.concatenate([1 - part, part], 1), old)


def resize(x: Float[AnyArray, "*B H W C"], height: int, width: int, matrix: Matrix) -> Float[Array, "*B h w C"]:
    """Resizes images [..., H, W, C] to `height` x `width`, in full float32 precision."""
    rows, columns = (jnp.asarray(matrix(*sizes), x.dtype) for sizes in ((x.shape[-3], height), (x.shape[-2], width)))
    exact = jax.lax.Precision.HIGHEST
    x = jnp.einsum("hH,...HWC->...hWC", rows, x, precision=exact)
    return jnp.einsum("wW,...hWC->...hwC", columns, x, precision=exact)
