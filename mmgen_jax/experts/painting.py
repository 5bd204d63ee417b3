"""Paints masks of regions as one picture of flat colours, as the published labels are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8


def seed_of(name: str) -> int:
    """Seed of an image's colours: a digest of its relative path, which does not depend on the order of work."""
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest(), "big")


def paint(masks: Sequence[Bool[np.ndarray, "H W"]], name: str) -> UInt8[np.ndarray, "H W 3"]:
    """Paints each region in a random colour, and the background in another; large regions first, so small ones show.

    Args:
      masks: masks of regions, at least one.
      name: relative path of the image.
    """
    rng = np.random.default_rng(seed_of(name))
    picture = np.zeros((*masks[0].shape, 3), np.uint8)
    covered = np.zeros(masks[0].shape, bool)
    for mask in sorted(masks, key=np.count_nonzero, reverse=True):
        picture[mask] = rng.integers(0, 256, size=3, dtype=np.uint8)
        covered |= mask
    picture[~covered] = rng.integers(0, 256, size=3, dtype=np.uint8)
    return picture
