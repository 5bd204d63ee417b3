"""Normals of depth labels with given intrinsics, from planes fitted to inverse depth; exact for planes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from mmgen_jax.modalities.conventions import DepthFiles
from mmgen_jax.modalities.geometry import Camera
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.modalities.slopes import level, normals
from mmgen_jax.system.errors import UsageError

_COARSEST = 1 / 127  # of the range; with larger levels even the largest window cannot tell slopes apart


class FromDepth:
    """Reads the depth labels of a tree. Pixels whose number is `invalid` have no depth, and get no normal."""

    def __init__(self, path: str, camera: Camera, invalid: float | None = None):
        self._folder, self._camera, self._depth = path, camera, DepthFiles(invalid=invalid)

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; raises UsageError for an image without depth, or with depth in too few levels."""
        del images
        return [self._one(str(PurePosixPath(self._folder) / PurePosixPath(n).with_suffix(".png"))) for n in names]

    def _one(self, path: str) -> np.ndarray:
        depth, valid = self._depth.read(path)
        if min(depth.shape[:2]) < 2:
            raise UsageError(f"depth {path} has {depth.shape[1]}x{depth.shape[0]} pixels; allowed: at least 2x2")
        relative = depth[..., 0] / 65535.0
        known = relative if valid is None else relative[valid]
        if (size := level(relative, valid)) > _COARSEST:
            raise UsageError(
                f"depth {path} has {len(np.unique(known))} levels, 1/{1 / size:.0f} of its range apart, "
                "too coarse for normals; allowed: 7 bits and more"
            )
        found = normals(relative, self._camera, valid)
        return to_pixels(found if valid is None else np.where(valid[..., None], found, 0), np.uint8)
