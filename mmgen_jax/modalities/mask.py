"""Segmentation masks, and the regions of the rendered data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmgen_jax.modalities.regions import Regions

# Tetrahedron corners of the colour cube: all pairs are equally far apart and no colour lies on the
# line between two others, so that an average of two regions never decodes as a third one.
PALETTE = np.array([[0, 0, 0], [0, 255, 255], [255, 255, 0], [255, 0, 255]], np.uint8)
REGIONS = ("background", "ground", "object", "distractor")
FAMILIES = ("toy", "plant", "building")  # regions of the objects of rich scenes
OBJECTS = ("object", "distractor", *FAMILIES)  # regions that count as objects

MASK = Regions("mask", loss_weight=0.1)


def object_pixels(mask: np.ndarray, regions: Sequence[str]) -> np.ndarray | None:
    """Bool [N, H, W], which pixels of region ids are objects; None if no region is called so."""
    ids = [i for i, name in enumerate(regions) if name in OBJECTS]
    return np.isin(mask, ids) if ids else None
