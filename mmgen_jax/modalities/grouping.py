"""Regions of masks that have colours and no ids: flat colours are numbered, others are made flat first."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from mmgen_jax.modalities.pixels import nearest_color

DISTANCE = 30.0  # colours that are nearer, on the 0..255 scale, are of one region
_BINS = 16  # levels of each channel that are one bin of a histogram
_LEAST = 0.002  # share of the pixels that a region has at least


def coloured(mask: np.ndarray) -> bool:
    """Whether a mask has colours uint8 [..., H, W, 3] and no ids."""
    return mask.dtype == np.uint8 and mask.ndim > 2 and mask.shape[-1] == 3


def numbered(mask: np.ndarray) -> np.ndarray:
    """Region ids int [..., H, W] as they are, and flat colours uint8 [..., H, W, 3] as a number for each colour."""
    return mask.astype(int) @ np.array([65536, 256, 1]) if coloured(mask) else mask


def flattened(colours: UInt8[np.ndarray, "N H W 3"]) -> UInt8[np.ndarray, "N H W 3"]:
    """Colours as a network paints them, made flat: each pixel gets the nearest of the main colours of its image.

    The first main colour is the one that most pixels are near, the next the one that most of the other pixels are near,
    and so on, while those are 0.2% of all. Pixels count as a median of 3 x 3 leaves them, and those on the slope
    between two colours do not. So a region that is thinner than about 3 pixels is lost, as is one whose colour is near
    that of a larger one.
    """
    return np.stack([_flat(image) for image in colours]) if len(colours) else colours


def _flat(image: np.ndarray) -> np.ndarray:
    """One image [H, W, 3]."""
    smooth = np.asarray(Image.fromarray(image).filter(ImageFilter.MedianFilter(3)))
    pixels = smooth[_level(smooth.astype(np.float32))]
    colours, left = _histogram(pixels if len(pixels) else smooth.reshape(-1, 3))
    near = np.linalg.norm(colours[:, None] - colours, axis=-1) < DISTANCE
    main: list[np.ndarray] = []
    while True:
        votes = near @ left
        first = votes.argmax()
        if main and votes[first] < max(_LEAST * image[..., 0].size, 1):
            break
        main.append(np.rint(left[near[first]] @ colours[near[first]] / votes[first]))
        left[near[first]] = 0
    flat = np.array(main).astype(np.uint8)
    return flat[nearest_color(image, flat)]


def _level(colours: np.ndarray) -> np.ndarray:
    """Bool [H, W], the pixels of [H, W, 3] whose neighbours to the right and below are near; the last have fewer."""
    level = np.ones(colours.shape[:2], bool)
    level[:, :-1] &= np.linalg.norm(np.diff(colours, axis=1), axis=-1) < DISTANCE
    level[:-1] &= np.linalg.norm(np.diff(colours, axis=0), axis=-1) < DISTANCE
    return level


def _histogram(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour [B, 3] and number [B] of the pixels [P, 3] in each bin of colours that has any, both float."""
    bins = (pixels // _BINS).astype(int) @ np.array([_BINS**2, _BINS, 1])
    _, which, counts = np.unique(bins, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(which, pixels[:, c]) for c in range(3)], -1)
    return sums / counts[:, None], counts.astype(np.float64)
