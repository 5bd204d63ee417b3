"""Which pixels of a given image are known: a mask that a user draws, white where the image is to be kept."""

from __future__ import annotations

import os

import numpy as np

from mmgen_jax.modalities import files
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.pixels import center_crop

_ALLOWED = "True where pixels are kept and False elsewhere, or 1 and 0, or 255 and 0"


def read(name: str, given: object, size: int) -> np.ndarray:
    """What a user brings as the mask `name` -> bool [n, size, size], made square as the image that it belongs to.

    Args:
      name: "keep of rgb", for messages.
      given: path of a grey image, of which the brighter half of all levels is kept, or of an NPY file; or an array
        [H, W] or [n, H, W] of two values.
      size: height and width of the result.

    Raises UsageError for a file that cannot be read, and for other shapes and values.
    """
    if isinstance(given, str | os.PathLike):
        source = Source(f"{name} ({given})")
        if os.fspath(given).lower().endswith(".npy"):
            planes = two_values(files.read_array(given, source), source)
        else:
            image = files.grey(files.read_image(given, source), source)
            planes = (image.samples > image.top / 2)[None, ..., None]
    else:
        source = Source(f"{name} (array)")
        planes = two_values(files.given_array(given, source), source)
    return np.stack([center_crop(p.astype(np.uint8), size, nearest=True)[..., 0] > 0 for p in planes])


def two_values(array: np.ndarray, source: Source) -> np.ndarray:
    """Bool [n, H, W, 1] of an array of two values. Raises UsageError."""
    if array.dtype.kind not in "biuf":
        raise source.error(f"has type {array.dtype}", _ALLOWED)
    images = files.stack(array, 1, source)
    top = images.max()
    if not (((images == 0) | (images == top)).all() and top in (0, 1, 255)):
        raise source.error(f"has values from {images.min():.4g} to {top:.4g}", _ALLOWED)
    return images > 0
