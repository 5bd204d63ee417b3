"""Measures of uncertainty, on errors that are drawn with a known one."""

import numpy as np
import pytest

from mmgen_jax.metrics import calibration
from mmgen_jax.modalities.registry import MODALITIES


@pytest.fixture
def sigma(rng):
    return rng.uniform(0.01, 0.1, 200_000)


def test_normal_errors_are_covered_as_their_deviation_says(sigma, rng):
    error, interval = np.abs(sigma * rng.normal(size=sigma.shape)), MODALITIES["depth"].interval
    assert calibration.coverage(error, sigma, interval) == pytest.approx(0.9, abs=0.003)
    assert calibration.coverage(error, sigma / 2, interval) == pytest.approx(0.5892, abs=0.005)  # of 0.8225 deviations
    assert calibration.factor(error, sigma / 2, interval) == pytest.approx(2, rel=0.01)


def test_angles_of_two_normal_numbers_are_covered_as_their_deviation_says(sigma, rng):
    error, interval = sigma * np.linalg.norm(rng.normal(size=(2, len(sigma))) / np.sqrt(2), axis=0), 1.517
    assert MODALITIES["normal"].interval == interval
    assert calibration.coverage(error, sigma, interval) == pytest.approx(0.9, abs=0.003)
    assert calibration.factor(error, 3 * sigma, interval) == pytest.approx(1 / 3, rel=0.01)


def test_chances_of_errors_are_scaled_to_their_share(rng):
    chance = rng.uniform(0, 0.5, 200_000)
    error = (rng.random(chance.shape) < chance).astype(np.float32)
    assert calibration.factor(error, chance / 2, None) == pytest.approx(2, rel=0.01)
    assert calibration.rate_gap(error, chance) < 0.005
    assert calibration.rate_gap(error, chance / 2) == pytest.approx(0.125, abs=0.005)  # half of the mean of 0.25


def test_sparsification_of_a_uniform_density_is_a_line(rng):
    """Without the largest share s of errors in [0, 1] the mean is (1 - s) / 2; in no order it stays 1/2."""
    error = rng.random(200_000)
    removed = np.arange(100) / 100
    np.testing.assert_allclose(calibration.sparsification(error, error), (1 - removed) / 2, atol=0.005)
    chance = calibration.sparsification(error, rng.random(error.shape))
    np.testing.assert_allclose(chance[:90], 0.5, atol=0.01)
    assert calibration.ause(error, error) == 0
    assert calibration.ause(error, rng.random(error.shape)) == pytest.approx(0.495, abs=0.01)
    assert calibration.ause(error, 7 * error**3) == 0  # the order alone matters
    np.testing.assert_allclose(calibration.sparsification(error, 0 * error)[:90], 0.5, atol=0.01)  # ties are mixed


def test_nothing_to_go_by_is_left_as_it_is():
    zero = np.zeros(5)
    assert [calibration.factor(zero, zero, i) for i in (None, 1.6)] == [1, 1]
    assert calibration.factor(np.ones(5), zero, 1.6) == 1 and calibration.ause(zero, zero) == 0


def test_four_errors_by_hand():
    """Errors 1, 2, 3, 4: without the largest shares their means are 2.5, 2, 1.5, 1; reversed 2.5, 3, 3.5, 4."""
    error = np.array([1.0, 2, 3, 4])
    np.testing.assert_allclose(calibration.sparsification(error, error, 4), [2.5, 2, 1.5, 1])
    np.testing.assert_allclose(calibration.sparsification(error, -error, 4), [2.5, 3, 3.5, 4])
    assert calibration.coverage(error, np.full(4, 2.0), 1.5) == 0.75  # at most 3
    assert calibration.coverage(error, np.zeros(4), 1.5) == 0
    # Two bins: chance 0.2 with 1 of 2 wrong, 0.9 with 2 of 2: (2 * 0.3 + 2 * 0.1) / 4.
    wrong, chance = np.array([0.0, 1, 1, 1]), np.array([0.2, 0.2, 0.9, 0.9])
    assert calibration.rate_gap(wrong, chance) == pytest.approx(0.2)
    assert calibration.factor(wrong, chance, None) == pytest.approx(0.75 / 0.55)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["errors", "uncertainties"])
def test_what_is_not_finite_is_no_score(number, which):
    good, bad = np.ones(4), np.array([1, number, 1, 1])
    pair = (bad, good) if which == "errors" else (good, bad)
    for call in (calibration.ause, calibration.rate_gap, *(lambda e, u, f=f: f(e, u, 1.6) for f in SCALED)):
        with pytest.raises(ValueError, match="^(errors|uncertainties) are NaN or infinite in 1 of 4 pixels"):
            call(*pair)


SCALED = (calibration.coverage, calibration.factor)


@pytest.mark.parametrize("other", [np.ones(3), np.ones((4, 1)), np.ones(0)])
def test_other_numbers_of_pixels_are_no_score(other):
    for call in (calibration.ause, calibration.rate_gap, *(lambda e, u, f=f: f(e, u, 1.6) for f in SCALED)):
        with pytest.raises(ValueError, match="must be the same, not empty"):
            call(np.ones(4) if other.size else other, other)
