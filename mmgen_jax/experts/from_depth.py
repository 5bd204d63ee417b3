"""Normals by differentiating depth with given intrinsics; exact for planes, see `geometry.normals_from_depth`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from mmgen_jax.modalities.depth import DEPTH
from mmgen_jax.modalities.geometry import Camera, normals_from_depth, smaller_difference, to_inverse_depth
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.system.errors import UsageError


def normals(relative: np.ndarray, camera: Camera) -> np.ndarray:
    """Unit normals float64 [H, W, 3] in camera space of relative inverse depth [H, W] in [0, 1]; edges stay sharp."""
    return normals_from_depth(to_inverse_depth(relative, camera.depth_range), camera.fov, smaller_difference)


class FromDepth:
    """Reads the depth labels of a tree."""

    def __init__(self, path: str, camera: Camera):
        self._folder, self._camera = path, camera

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; raises UsageError for an image without depth."""
        del images
        return [self._one(str(PurePosixPath(self._folder) / PurePosixPath(n).with_suffix(".png"))) for n in names]

    def _one(self, path: str) -> np.ndarray:
        depth = DEPTH.read(path)
        if min(depth.shape[:2]) < 2:
            raise UsageError(f"depth {path} has {depth.shape[1]}x{depth.shape[0]} pixels; allowed: at least 2x2")
        return to_pixels(normals(depth[..., 0] / 65535.0, self._camera), np.uint8)
