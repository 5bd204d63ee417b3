"""Normals by StableNormal (Ye et al. 2024), in the layout of torch.hub: the expert of the published labels.

Loading it runs the code of that repository: use one that you trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mmgen_jax.experts.protocol import package
from mmgen_jax.system.errors import UsageError

ENTRY = "StableNormal"


class StableNormal:
    """Stores the expert's pictures unchanged, as in the published labels."""

    def __init__(self, path: str):
        if not (Path(path) / "hubconf.py").is_file():
            raise UsageError(f"stable-normal folder {path!r} has no hubconf.py; allowed: a copy of its repository")
        torch = package("torch", "stable-normal")
        try:
            self._predict = torch.hub.load(path, ENTRY, source="local", trust_repo=True)
        except (RuntimeError, ImportError) as error:
            raise UsageError(f"stable-normal folder {path!r} cannot be loaded ({error})") from error

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; raises UsageError if the result is not a picture of the image's size."""
        del names
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> np.ndarray:
        normal = self._predict(Image.fromarray(image))
        if normal.size != (image.shape[1], image.shape[0]):
            normal = normal.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
        return np.array(normal.convert("RGB"))
