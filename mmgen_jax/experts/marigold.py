"""Normals by Marigold (Ke et al. 2024), run by the diffusers library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mmgen_jax.experts import loading
from mmgen_jax.experts.protocol import package
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.system.errors import UsageError


class MarigoldNormals:
    """Its axes are those of this package: x right, y up, z towards the camera."""

    def __init__(self, path: str, steps: int):
        torch, diffusers = package("torch", "marigold"), package("diffusers", "marigold")
        self._generator = torch.Generator
        device = "cuda" if torch.cuda.is_available() else "cpu"
        kind = diffusers.MarigoldNormalsPipeline
        with loading.refusing(f"marigold {path!r} cannot be loaded"):
            _check_kind(kind.load_config(path), path)
            # One by one: the pipeline's own loading would not tell which weights of them are missing.
            parts = {name: loading.network(part, path, name) for name, part in _parts(diffusers).items()}
            pipeline = kind.from_pretrained(path, **parts)
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


def _parts(diffusers: Any) -> dict[str, Any]:
    """Folder -> class of the networks of which Marigold consists."""
    clip = package("transformers", "marigold").CLIPTextModel
    return {"unet": diffusers.UNet2DConditionModel, "vae": diffusers.AutoencoderKL, "text_encoder": clip}


def _check_kind(config: dict[str, Any], path: str) -> None:
    """Raises UsageError for pipelines of other things, whose networks may have the same shapes."""
    made = config.get("prediction_type") or config.get("_class_name")
    if made not in ("normals", "MarigoldNormalsPipeline"):
        raise UsageError(f"marigold {path!r} is a pipeline of {made!r}; allowed: of 'normals'")
