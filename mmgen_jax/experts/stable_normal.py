"""Normals by StableNormal (Ye et al. 2024), in the layout of torch.hub: the expert of the published labels.

Loading it runs the code of that repository: use one that you trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from etils import epath
from PIL import Image

from mmgen_jax.experts import loading
from mmgen_jax.experts.protocol import package
from mmgen_jax.system.errors import RunError, UsageError

ENTRY = "StableNormal"
_LENGTHS = (0.75, 1.25)  # of the vectors of a picture of normals; 8 bits move them by less than 0.01


class StableNormal:
    """Stores the expert's pictures unchanged, as in the published labels."""

    def __init__(self, path: str):
        if not (Path(path) / "hubconf.py").is_file():
            raise UsageError(f"stable-normal folder {path!r} has no hubconf.py; allowed: a copy of its repository")
        torch = package("torch", "stable-normal")
        for file in sorted(Path(path).rglob("*.safetensors")):
            loading.check_file(epath.Path(file))
        with loading.refusing(f"stable-normal folder {path!r} cannot be loaded"):
            self._predict = torch.hub.load(path, ENTRY, source="local", trust_repo=True)

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; raises RunError for a picture that is not one of normals, as of NaN."""
        del names
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> np.ndarray:
        normal = self._predict(Image.fromarray(image))
        if normal.size != (image.shape[1], image.shape[0]):
            normal = normal.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
        pixels = np.array(normal.convert("RGB"))
        length = float(np.median(np.linalg.norm(pixels / 127.5 - 1, axis=-1)))
        if not _LENGTHS[0] < length < _LENGTHS[1]:
            raise RunError(f"stable-normal made vectors of length {length:.2f}, which are not normals")
        return pixels
