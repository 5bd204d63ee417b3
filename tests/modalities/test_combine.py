"""Draws of one image are combined as the modality says; their spread is the uncertainty: on draws of known spread."""

import numpy as np
import pytest

from mmgen_jax.modalities.depth import align
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE, REGIONS
from mmgen_jax.modalities.pixels import normalise
from mmgen_jax.modalities.registry import MODALITIES

RANGE = Facts(depth_range=(1.0, 10.0))
LABELS = Facts(PALETTE, REGIONS)
DEPTH, NORMAL, MASK, RGB = (MODALITIES[m] for m in ("depth", "normal", "mask", "rgb"))


@pytest.fixture
def depth(rng):
    """True relative depth [2, 24, 24]."""
    return rng.uniform(0.3, 0.7, (2, 24, 24)).cumsum(2) / 24 + 0.1


def test_depth_of_a_fixed_scale_is_averaged_as_it_is(depth, rng):
    """The mean of K draws and the deviation of all of them, also where whole draws are higher or lower."""
    sigma, offset = 0.02, 0.05 * np.array([-1.0, 0, 1])[None, :, None, None]
    flat = 0.5 + 0 * depth[:, None]
    found = DEPTH.combine((flat + offset).astype(np.float32), RANGE)
    np.testing.assert_allclose(found.value, 0.5, atol=1e-6)
    np.testing.assert_allclose(found.uncertainty, 0.05, atol=1e-6)
    noisy = DEPTH.combine((0.5 + sigma * rng.normal(size=(2, 400, 24, 24))).astype(np.float32), RANGE)
    assert np.abs(noisy.uncertainty / sigma - 1).mean() < 0.05


def test_depth_of_no_scale_is_aligned_first(depth, rng):
    """Draws that differ in scale and shift alone agree; the noise that they have besides is their uncertainty."""
    scale = rng.uniform(0.3, 1, (2, 8, 1, 1))
    exact = (scale * depth[:, None] + rng.uniform(0, 0.2, (2, 8, 1, 1))).astype(np.float32)
    found = DEPTH.combine(exact, Facts())
    assert found.uncertainty.max() < 1e-5
    for value, truth in zip(found.value, depth, strict=True):
        assert np.corrcoef(value.ravel(), truth.ravel())[0, 1] > 1 - 1e-6
    assert DEPTH.combine(exact, RANGE).uncertainty.mean() > 0.05
    sigma = 0.01
    noisy = depth[:, None] + sigma * rng.normal(size=(2, 32, 24, 24))
    assert DEPTH.combine((scale[:, :1] * noisy).astype(np.float32), Facts()).uncertainty.mean() == pytest.approx(
        sigma * scale[:, 0].mean(), rel=0.1
    )


def test_a_draw_that_went_astray_is_not_what_others_are_aligned_to(depth, rng):
    """It comes first, and upside down: it is no part of the shape that the others agree on."""
    draws = np.repeat(depth[:, None], 5, 1)
    draws[:, 0] = 1 - draws[:, 0]
    aligned = align(draws)
    np.testing.assert_allclose(aligned[:, 1:], draws[:, 1:], atol=1e-9)
    assert np.ptp(aligned[:, 0]) < 1 and np.ptp(aligned[0, 0]) < 1e-9  # a scale of 0 fits it best


def test_normals_are_averaged_on_the_sphere(rng):
    """Draws at 3 degrees all around a direction, and draws of a Gaussian of 5 degrees, root mean square."""
    turn = np.arange(6) * np.pi / 3
    slant = np.sin(np.radians(3))
    ring = np.stack([slant * np.cos(turn), slant * np.sin(turn), np.full(6, np.cos(np.radians(3)))], -1)
    found = NORMAL.combine(ring[None, :, None, None].astype(np.float32), Facts())
    np.testing.assert_allclose(found.value[0, 0, 0], [0, 0, 1], atol=1e-6)
    assert found.uncertainty[0, 0, 0] == pytest.approx(3 * np.sqrt(6 / 5), rel=1e-3)
    sigma = np.radians(5) / np.sqrt(2)  # of each of two angles
    tilted = normalise(np.concatenate([sigma * rng.normal(size=(1, 4, 80, 80, 2)), np.ones((1, 4, 80, 80, 1))], -1))
    squares = NORMAL.combine(tilted.astype(np.float32), Facts()).uncertainty.astype(float) ** 2
    assert np.sqrt(squares.mean()) == pytest.approx(5, rel=0.02)  # with few draws too


def test_normals_without_a_direction_are_most_uncertain():
    opposite = np.array([[0, 0, 1], [0, 0, -1]], np.float32)[None, :, None, None]
    found = NORMAL.combine(opposite, Facts())
    assert not found.value.any() and found.uncertainty.item() == pytest.approx(np.degrees(2))


def test_masks_are_voted():
    draws = np.array([[[1, 2]], [[1, 3]], [[0, 2]], [[1, 2]]], np.int32)[None]
    found = MASK.combine(draws, LABELS)
    assert found.value.tolist() == [[[1, 2]]] and found.value.dtype == np.int32
    assert found.uncertainty.tolist() == [[[0.25, 0.25]]]


def test_colours_of_regions_that_are_alike_vote_together():
    colours = np.array([[250, 0, 0], [0, 0, 250], [240, 9, 5], [245, 3, 0]], np.uint8)[None, :, None, None]
    found = MASK.combine(colours, Facts())
    assert found.value[0, 0, 0].tolist() == [250, 0, 0] and found.uncertainty.item() == 0.25


def test_pictures_have_mean_and_deviation(rng):
    draws = np.clip(128 + 10 * rng.normal(size=(1, 64, 16, 16, 3)), 0, 255).round().astype(np.uint8)
    found = RGB.combine(draws, Facts())
    assert found.value.dtype == np.uint8 and np.abs(found.value.astype(int) - 128).max() <= 6
    assert found.uncertainty.mean() == pytest.approx(10 / 255, rel=0.03)
