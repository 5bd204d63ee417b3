"""Normals by differentiating depth with given intrinsics; exact for planes.

With inverse depth w = 1/z and the ray (x, y, -1) of a pixel, x right and y up, a plane is n . (x, y, -1) = d w: affine
in x and y. So the normal is proportional to (-w_x, -w_y, w - x w_x - y w_y), and differences of w are exact on planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float

from mmgen_jax.data.trees import groups as trees
from mmgen_jax.modalities.registry import to_pixels
from mmgen_jax.system.errors import UsageError


@dataclass(frozen=True)
class Camera:
    """A pinhole camera and the range of its relative inverse depth.

    Attributes:
      fov: horizontal field of view, in degrees; the axis goes through the middle of the image.
      near, far: distances at which relative inverse depth is 1 and 0.
    """

    fov: float = 60.0
    near: float = 1.0
    far: float = 10.0

    def __post_init__(self):
        if not 1 <= self.fov <= 170:
            raise UsageError(f"fov is {self.fov:g}; allowed: 1 to 170 degrees")
        if not 0 < self.near < self.far < math.inf:
            raise UsageError(f"near, far are {self.near:g}, {self.far:g}; allowed: 0 < near < far")


def normals(relative: Float[np.ndarray, "H W"], camera: Camera) -> Float[np.ndarray, "H W 3"]:
    """Unit normals in camera space (x right, y up, z towards the camera) of relative inverse depth in [0, 1].

    Of the differences to both neighbours the smaller one counts, so that edges of objects stay sharp.
    """
    height, width = relative.shape
    focal = width / 2 / math.tan(math.radians(camera.fov) / 2)
    x = (np.arange(width) + 0.5 - width / 2) / focal
    y = -(np.arange(height)[:, None] + 0.5 - height / 2) / focal
    w = relative * (1 / camera.near - 1 / camera.far) + 1 / camera.far
    w_x, w_y = _difference(w, 1) * focal, -_difference(w, 0) * focal
    vectors = np.stack([-w_x, -w_y, w - x * w_x - y * w_y], -1)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _difference(w: np.ndarray, axis: int) -> np.ndarray:
    """The smaller of the differences to the next and from the last one along an axis; one of them at the ends."""
    steps = np.diff(w, axis=axis)
    first, last = (np.take(steps, [i], axis) for i in (0, -1))
    after, before = np.concatenate([steps, last], axis), np.concatenate([first, steps], axis)
    return np.where(np.abs(after) < np.abs(before), after, before)


class FromDepth:
    """Reads the depth labels of a tree."""

    def __init__(self, path: str, camera: Camera):
        self._folder, self._camera = path, camera

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; raises UsageError for an image without depth."""
        del images
        return [self._one(str(PurePosixPath(self._folder) / PurePosixPath(n).with_suffix(".png"))) for n in names]

    def _one(self, path: str) -> np.ndarray:
        depth = trees.read(path, "depth")
        if min(depth.shape[:2]) < 2:
            raise UsageError(f"depth {path} has {depth.shape[1]}x{depth.shape[0]} pixels; allowed: at least 2x2")
        return to_pixels(normals(depth[..., 0] / 65535.0, self._camera), np.uint8)
