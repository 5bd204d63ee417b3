"""Takes labels that exist already, from a tree of files like that of the images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from mmgen_jax.data.trees import groups
from mmgen_jax.modalities.conventions import DepthFiles
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError


class Precomputed:
    """Takes the files with the same relative path as the image, with any suffix.

    `invalid` is the number of pixels of depth that have no value, or None; in the labels these alone are 0.
    """

    def __init__(self, modality: str, path: str, invalid: float | None = None):
        self._modality, self._folder, self._files = modality, path, groups.find(path)
        self._depth = DepthFiles(invalid=invalid)

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; raises UsageError for a file that is missing or has another size than its image."""
        return [self._one(image, str(PurePosixPath(n).with_suffix(""))) for image, n in zip(images, names, strict=True)]

    def _one(self, image: np.ndarray, key: str) -> np.ndarray:
        if key not in self._files:
            raise UsageError(f"{self._modality} of {key!r} is missing in {self._folder}")
        path = self._files[key]
        if self._modality == "depth":
            label, _ = self._depth.read(path)
        else:
            label = MODALITIES[self._modality].read(path)
        if label.shape[:2] != image.shape[:2]:
            raise UsageError(
                f"{self._modality} {self._files[key]} has {label.shape[1]}x{label.shape[0]} pixels; "
                f"its image has {image.shape[1]}x{image.shape[0]}"
            )
        return label
