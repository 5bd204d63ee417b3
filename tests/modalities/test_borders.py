"""Marks of borders, and how well two sets of them coincide, by hand."""

import numpy as np
import pytest

from mmgen_jax.modalities import borders


def test_boundary_scores_by_hand():
    mask, edges = np.zeros((3, 5, 8), int), np.zeros((3, 5, 8), bool)
    mask[:, :, 4:] = 1
    boundaries = borders.region_boundaries(mask)
    np.testing.assert_array_equal(np.argwhere(boundaries[0])[:, 1], [3] * 5)
    edges[0, :, 4] = True  # one pixel beside: counts
    edges[1, :, 5] = True  # two pixels beside: does not
    edges[2, :, 3] = edges[2, :, 7] = True  # half of the edges have a boundary
    scores = borders.boundary_scores(boundaries, edges)
    np.testing.assert_allclose(scores["recall"], [1, 0, 1])
    np.testing.assert_allclose(scores["precision"], [1, 0, 0.5])
    np.testing.assert_allclose(scores["f"], [1, 0, 2 / 3])


def test_a_side_without_marks_is_the_worst_score_and_not_left_out():
    """Boundaries 2 TP / (2 TP + FP + FN): no boundary beside true edges is 0, as is no edge beside boundaries."""
    none, line = np.zeros((1, 5, 8), bool), np.zeros((1, 5, 8), bool)
    line[:, :, 3] = True
    marks = (np.concatenate(x) for x in zip((none, line), (line, none), (line, line), (none, none), strict=True))
    scores = borders.boundary_scores(*marks)
    np.testing.assert_array_equal(scores["f"], [0, 0, 1, np.nan])
    np.testing.assert_array_equal(scores["recall"], [np.nan, 0, 1, np.nan])
    np.testing.assert_array_equal(scores["precision"], [0, np.nan, 1, np.nan])


def test_marks_grow_by_so_many_pixels_each_way():
    edges = np.zeros((2, 9, 8), bool)
    edges[0, 4, 4] = edges[1, 0, 7] = True
    for pixels in (0, 1, 2, 3):
        grown = np.zeros_like(edges)
        grown[0, 4 - pixels : 5 + pixels, 4 - pixels : 5 + pixels] = True
        grown[1, : 1 + pixels, 7 - pixels :] = True
        np.testing.assert_array_equal(borders.dilated(edges, pixels), grown)


@pytest.mark.parametrize(("height", "width", "pixels"), [(16, 16, 1), (64, 64, 1), (256, 256, 3), (480, 640, 6)])
def test_borders_may_be_off_by_a_share_of_the_diagonal(height, width, pixels):
    """0.0075 x 22.6, 90.5, 362 and 800 pixels are 0.17, 0.68, 2.7 and 6."""
    assert borders.tolerance(height, width) == pixels
