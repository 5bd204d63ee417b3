"""The camera, and what follows from it: depth and inverse depth, normals from depth, angles. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mmgen_jax.system.errors import UsageError


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels, and the range of its relative inverse depth.

    Attributes:
      fov: horizontal field of view, in degrees; the optical axis goes through the middle of the image.
      near, far: distances in metres at which relative inverse depth is 1 and 0.

    Raises:
      UsageError: a field of view outside 1 to 170 degrees, or not 0 < near < far.
    """

    fov: float = 60.0
    near: float = 1.0
    far: float = 10.0

    def __post_init__(self):
        if not 1 <= self.fov <= 170:
            raise UsageError(f"fov is {self.fov:g}; allowed: 1 to 170 degrees")
        if not 0 < self.near < self.far < math.inf:
            raise UsageError(f"near, far are {self.near:g}, {self.far:g}; allowed: 0 < near < far")

    @property
    def depth_range(self) -> tuple[float, float]:
        """(near, far) in metres."""
        return self.near, self.far


def depth_to_relative(depth: np.ndarray, depth_range: Sequence[float]) -> np.ndarray:
    """Metric z-depth to relative inverse depth: 1 at near and 0 at far of `depth_range`, in metres."""
    near, far = depth_range
    return (1 / np.asarray(depth) - 1 / far) / (1 / near - 1 / far)


def to_inverse_depth(relative: np.ndarray, depth_range: Sequence[float]) -> np.ndarray:
    """Relative inverse depth [0, 1] (1 = near) to 1/z in 1/metres, float64, for `depth_range` (near, far) in metres."""
    near, far = depth_range
    return np.asarray(relative, np.float64) * (1 / near - 1 / far) + 1 / far


def relative_to_depth(relative: np.ndarray, depth_range: Sequence[float]) -> np.ndarray:
    """Relative inverse depth [0, 1] to z-depth in metres; the inverse of `depth_to_relative`."""
    return 1 / to_inverse_depth(relative, depth_range)


def central_slopes(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes per pixel of [..., H, W] to the right and downwards: half the difference of both neighbours."""
    return np.gradient(q, axis=-1), np.gradient(q, axis=-2)


def rays(height: int, width: int, fov: float) -> np.ndarray:
    """Directions of unit depth through the pixels' centres, float64 [height, width, 3]: times z they are points.

    `fov` is the field of view of the width, in degrees; pixels are square.
    """
    step = 2 * np.tan(np.radians(fov / 2)) / width
    u = (np.arange(width) - (width - 1) / 2) * step
    v = ((height - 1) / 2 - np.arange(height)) * step
    return np.stack(np.broadcast_arrays(u, v[:, None], -1.0), -1)


def normals_from_depth(
    inverse_depth: np.ndarray,
    fov: float,
    slopes: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = central_slopes,
) -> np.ndarray:
    """Surface normals from 1/z [..., H, W], float64 [..., H, W, 3], unit, x right, y up, z towards the camera.

    A point is P = z (u, v, -1) with (u, v) the pixel's ray. A plane n.P = d has 1/z = n.(u, v, -1) / d, affine in
    (u, v); so with q = 1/z the normal is along -(q_u, q_v, u q_u + v q_v - q). Differences of q are thus exact on
    planes, which those of P are not.

    Args:
      inverse_depth: 1/z, of any scale.
      fov: field of view of the image's width, in degrees; pixels are square.
      slopes: gives the slopes per pixel to the right and downwards of 1/z.

    Raises:
      ValueError: images smaller than 2 x 2, where nothing can be differentiated.
    """
    q = np.asarray(inverse_depth, np.float64)
    height, width = q.shape[-2:]
    if min(height, width) < 2:
        raise ValueError(f"depth is {width}x{height} pixels: must be at least 2x2")
    step = 2 * np.tan(np.radians(fov / 2)) / width
    u, v, _ = np.moveaxis(rays(height, width, fov), -1, 0)
    right, down = slopes(q)
    q_u, q_v = right / step, -down / step
    normal = -np.stack([q_u, q_v, u * q_u + v * q_v - q], -1)
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between vectors [..., 3] in degrees, float64 [...]; exact near 0 too, where arccos is not.

    A vector of length zero is at 90 degrees to any other.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    across, along = np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)
    return np.where((across == 0) & (along == 0), 90, np.degrees(np.arctan2(across, along)))
