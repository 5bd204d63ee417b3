"""Normals by Marigold (Ke et al. 2024), run by the diffusers library."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmgen_jax.experts.protocol import package
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.system.errors import UsageError


class MarigoldNormals:
    """Its axes are those of this package: x right, y up, z towards the camera."""

    def __init__(self, path: str, steps: int):
        torch, diffusers = package("torch", "marigold"), package("diffusers", "marigold")
        self._generator = torch.Generator
        device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            pipeline = diffusers.MarigoldNormalsPipeline.from_pretrained(path)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(f"marigold {path!r} cannot be loaded ({_line(error)})") from error
        pipeline.set_progress_bar_config(disable=True)
        self._pipeline, self._steps = pipeline.to(device), steps

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; the same image gets the same normals, whatever else is in the batch."""
        del names
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> np.ndarray:
        out = self._pipeline(
            Image.fromarray(image), num_inference_steps=self._steps, generator=self._generator().manual_seed(0)
        )
        vectors = np.asarray(out.prediction[0], np.float64)
        return to_pixels(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6), np.uint8)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
