"""Marks of borders and edges in images, one pixel wide, and how well two sets of them coincide."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Int

from mmgen_jax.modalities.measure import image_mean

TOLERANCE = 0.0075  # of the diagonal, as BSDS has it for contours (Martin, Fowlkes and Malik 2004)


def marked(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Marks pixels [N, H, W] with an edge to their right (bool [N, H, W-1]) or below them (bool [N, H-1, W]).

    Only the pixel on one side of an edge is marked, so marks are one pixel wide.
    """
    edges = np.zeros((*right.shape[:2], down.shape[2]), bool)
    edges[:, :, :-1] |= right
    edges[:, :-1] |= down
    return edges


def dilated(edges: Bool[np.ndarray, "N H W"], pixels: int = 1) -> Bool[np.ndarray, "N H W"]:
    """Extends each mark to all that are at most so many pixels away in rows and in columns."""
    height, width = edges.shape[1:]
    padded = np.pad(edges, ((0, 0), (pixels, pixels), (pixels, pixels)))
    rows = np.any([padded[:, i : i + height] for i in range(2 * pixels + 1)], axis=0)
    return np.any([rows[:, :, i : i + width] for i in range(2 * pixels + 1)], axis=0)


def region_boundaries(mask: Int[np.ndarray, "N H W"]) -> Bool[np.ndarray, "N H W"]:
    """Marks pixels of region ids whose neighbour to the right or below belongs to another region."""
    return marked(mask[:, :, 1:] != mask[:, :, :-1], mask[:, 1:] != mask[:, :-1])


def tolerance(height: int, width: int) -> int:
    """Pixels that a border may be off in images of a size: 0.75% of the diagonal, rounded up; 3 at 256 x 256."""
    return math.ceil(TOLERANCE * math.hypot(height, width))


def boundary_scores(boundaries: np.ndarray, edges: np.ndarray, pixels: int = 1) -> dict[str, np.ndarray]:
    """Measures how well two maps of marks, bool [N, H, W], coincide; returns scores in [0, 1] of each image [N].

    "recall" is the share of boundary pixels with an edge at most `pixels` away (see `dilated`), "precision" the share
    of edge pixels with a boundary that near, and "f" their harmonic mean. Without boundaries recall is NaN, without
    edges precision is; "f" is 0 if only one of both is there, as where a mask of one region misses all edges, and NaN
    if neither is.
    """
    recall = image_mean(dilated(edges, pixels), boundaries)
    precision = image_mean(dilated(boundaries, pixels), edges)
    neither = np.isnan(recall) & np.isnan(precision)
    found, near = np.nan_to_num(recall), np.nan_to_num(precision)
    f = 2 * found * near / np.where(found + near > 0, found + near, 1)
    return {"recall": recall, "precision": precision, "f": np.where(neither, np.nan, f)}
