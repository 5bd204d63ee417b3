"""Depth by Depth Anything, in JAX."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from mmgen_jax.frozen import depth_anything
from mmgen_jax.modalities.pixels import finite, to_array, to_pixels

FLAT = 1e-8  # an image whose range of depths is below this has no depth


class DepthAnything:
    """Relative inverse depth, stretched to the whole range in each image as in the published labels."""

    def __init__(self, path: str, kind: str = ""):
        dtype = "bfloat16" if jax.default_backend() == "tpu" else "float32"
        self._network = depth_anything.load(path, dtype, kind)
        self._predict = jax.jit(lambda network, rgb: network(rgb))

    def label(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """See `Expert.label`; images of one size are computed together."""
        del names
        labels: dict[int, np.ndarray] = {}
        for shape in {image.shape for image in images}:
            rows = [i for i, image in enumerate(images) if image.shape == shape]
            depth = np.asarray(self._predict(self._network, to_array(np.stack([images[i] for i in rows]))))
            labels |= {i: stretch(d) for i, d in zip(rows, depth, strict=True)}
        return [labels[i] for i in range(len(images))]


def stretch(depth: np.ndarray) -> np.ndarray:
    """Stretches numbers [H, W] to uint16 [H, W, 1] from 0 to 65535; all are 0 if the numbers have no range.

    Raises NotFinite: one such number would leave nothing of all the others.
    """
    depth = finite(depth)
    low, span = float(depth.min()), float(np.ptp(depth))
    relative = np.zeros(depth.shape) if span <= FLAT else (depth.astype(np.float64) - low) / span
    return to_pixels(2 * relative - 1, np.uint16)[..., None]
