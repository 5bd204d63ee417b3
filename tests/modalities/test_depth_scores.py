"""Scores of depth by hand, and the two kinds of fit on predictions that they make exact."""

from __future__ import annotations

import numpy as np
import pytest

from mmgen_jax.modalities.depth import depth_errors, fitted
from mmgen_jax.modalities.geometry import depth_to_relative

ALL = np.ones((1, 1, 4), bool)
DEPTH = np.array([[[1.0, 2.0, 4.0, 8.0]]])


def test_scores_of_four_pixels_by_hand():
    """Ratios 1, 1.5, 0.5 and 1.2 of prediction to depth."""
    prediction = DEPTH * [1, 1.5, 0.5, 1.2]
    found = {name: value[0] for name, value in depth_errors(prediction, DEPTH, ALL).items()}
    logs = np.log([1, 1.5, 0.5, 1.2])
    assert found == pytest.approx(
        {
            "absrel": (0 + 0.5 + 0.5 + 0.2) / 4,
            "rmse": np.sqrt((0 + 1 + 4 + 1.6**2) / 4),
            "log10": (np.log10(1.5) + np.log10(2) + np.log10(1.2)) / 4,
            "silog": 100 * np.std(logs),
            "delta1": 0.5,  # 1 and 1.2
            "delta2": 0.75,  # 1.5 < 1.5625
            "delta3": 0.75,  # 2 > 1.953
        }
    )


def test_a_factor_alone_leaves_silog_at_zero():
    found = depth_errors(1.1 * DEPTH, DEPTH, ALL)
    assert found["silog"] == pytest.approx(0, abs=1e-6)
    assert found["absrel"] == pytest.approx(0.1) and found["log10"] == pytest.approx(np.log10(1.1))


def test_pixels_that_are_not_valid_do_not_count():
    valid = np.array([[[True, True, False, True]]])
    found = depth_errors(np.where(valid, DEPTH, np.nan), np.where(valid, DEPTH, 0), valid)
    assert [float(value[0]) for value in found.values()] == pytest.approx([0, 0, 0, 0, 1, 1, 1])
    assert all(np.isnan(value[0]) for value in depth_errors(DEPTH, DEPTH, ~ALL).values())


def test_each_fit_makes_its_own_kind_exact_and_not_the_other():
    """Relative inverse depth up to scale and shift is exact in disparity; metres up to scale and shift in depth."""
    bounds, own = (0.1, 100.0), (1.0, 10.0)
    disparity = 0.3 / DEPTH + 0.2
    np.testing.assert_allclose(fitted(disparity, DEPTH, ALL, bounds), DEPTH, rtol=1e-9)
    metres = 0.5 * DEPTH + 2
    relative = depth_to_relative(metres, own)
    np.testing.assert_allclose(fitted(relative, DEPTH, ALL, bounds, own), DEPTH, rtol=1e-9)
    assert np.abs(fitted(relative, DEPTH, ALL, bounds) - DEPTH).max() > 0.1
    assert np.abs(fitted(disparity, DEPTH, ALL, bounds, own) - DEPTH).max() > 0.1


def test_predictions_are_clipped_to_the_range_of_the_benchmark():
    found = fitted(0.3 / DEPTH + 0.2, DEPTH, ALL, (2.0, 4.0))
    np.testing.assert_allclose(found, [[[2, 2, 4, 4]]], rtol=1e-9)
