"""Holes: pixels without a value, as where nothing was measured. They are not a surface, and count nowhere.

In stored pixels a hole is a reserved value: 0 in a scalar, and in directions anything that is far from length one. The
metadata of a data set say which modalities have holes, as 0 is a value like others where there are none. Batches carry
a bool for each pixel beside the pixels of such a modality, whose holes are filled in from the nearest pixels that have
a value, so that networks see no edges that are not there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmgen_jax.modalities import pixels
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.pixels import Either
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

METADATA = "holes"  # entry of a data set's metadata that lists the modalities which have some
_MOST = 0.5  # a resampled pixel has a value if at least this share of what it was made of has


def key(modality: str) -> str:
    """Key in batches of the bools that say which pixels of a modality have a value."""
    return f"{modality}_valid"


def fill(image: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Pixels [H, W, C] where those that are not valid, bool [H, W], are replaced by the nearest that are, if any is."""
    from scipy import ndimage  # takes half a second, and commands import this file for their --help

    if valid.all() or not valid.any():
        return image
    nearest = ndimage.distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return image[tuple(nearest)]


def fill_given(images: np.ndarray, valid: np.ndarray, source: Source) -> np.ndarray:
    """`fill` of images [n, H, W, C] that a user brings, which is said; raises UsageError where nothing has a value."""
    if valid.all():
        return images
    if not valid.any(axis=(1, 2)).all():
        raise source.error("has no pixel with a value, all are not finite", "at least one")
    say(
        f"{source.text}: {1 - valid.mean():.1%} of its pixels have no value; each takes that of the nearest one with it"
    )
    return np.stack([fill(image, there) for image, there in zip(images, valid, strict=True)])


def hidden(arrays: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays [B, H, W, C] with NaN in the pixels of which a batch says that they have no value."""
    return {m: np.where(batch[key(m)][..., None], x, np.nan) if key(m) in batch else x for m, x in arrays.items()}


def center_crop(numbers: np.ndarray, valid: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """`pixels.center_crop` of float32 [H, W, C] that leaves holes out: returns (numbers, which of them are valid).

    Every result is the average of the valid pixels among those that it is made of, with their usual weights, and stays
    within their range; it is a hole where more than half of the weight belongs to holes.
    """
    weights = pixels.center_crop(valid.astype(np.float32)[..., None], size)
    sums = pixels.center_crop(np.where(valid[..., None], numbers, 0).astype(np.float32), size)
    kept = weights[..., 0] >= _MOST
    inside = numbers[valid] if valid.any() else np.zeros((1, numbers.shape[-1]), np.float32)
    averages = np.clip(sums / np.maximum(weights, _MOST), inside.min(0), inside.max(0))
    return np.where(kept[..., None], averages, 0), kept


def cells(valid: Either, size: int) -> Either:
    """Bool [..., H, W] of pixels to [..., size, size] of latent cells, which are valid if all their pixels are."""
    factor = valid.shape[-1] // size
    return valid.reshape(*valid.shape[:-2], size, factor, size, factor).all((-3, -1))  # type: ignore[return-value]


def of(metadata: Mapping) -> tuple[str, ...]:
    """The modalities of a data set that have holes, from what it says of itself; raises UsageError for nonsense."""
    found = metadata.get(METADATA, ())
    if not isinstance(found, list | tuple) or not all(isinstance(m, str) for m in found):
        raise UsageError(f"the data set's metadata have {METADATA} = {found!r}; allowed: a list of modalities")
    return tuple(found)
