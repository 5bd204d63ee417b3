"""Masks of colours become regions: flat ones exactly, painted ones by their main colours."""

import numpy as np
import pytest

from mmgen_jax.modalities.grouping import flattened, numbered
from mmgen_jax.modalities.measure import adjusted_rand

COLOURS = np.array([[250, 10, 20], [30, 200, 40], [20, 40, 230], [240, 230, 60], [128, 128, 128]], np.uint8)


@pytest.fixture
def ids():
    """Quarters of an image, and a square of 4 x 4 pixels in its middle."""
    rows, columns = np.mgrid[:24, :24] // 12
    found = np.stack([2 * rows + columns, rows])
    found[:, 10:14, 10:14] = 4
    return found


def test_ids_stay_and_flat_colours_are_numbers(ids):
    assert numbered(ids) is ids
    found = numbered(COLOURS[ids])
    assert found.shape == ids.shape and found[0, 0, 0] == 0xFA0A14
    np.testing.assert_array_equal(adjusted_rand(found, ids), 1)
    np.testing.assert_array_equal(numbered(COLOURS[ids[0]]), found[0])


def test_flat_colours_stay(ids):
    np.testing.assert_array_equal(flattened(COLOURS[ids]), COLOURS[ids])
    assert flattened(COLOURS[ids][:0]).shape == (0, 24, 24, 3)


def test_noise_and_soft_borders_make_no_regions(ids):
    """A border that is a blend over some pixels goes to both of its sides, whatever colour is between them."""
    rng, colours = np.random.default_rng(0), COLOURS[ids].astype(float)
    noisy = np.clip(np.rint(colours + rng.normal(0, 6, colours.shape)), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(adjusted_rand(numbered(flattened(noisy)), ids), 1)
    ramp = np.clip((np.arange(64) - 29) / 5, 0, 1)[:, None]  # 4 pixels between black and yellow
    soft = np.broadcast_to(np.rint(ramp * [250, 240, 20]), (1, 16, 64, 3)).astype(np.uint8)
    found = numbered(flattened(soft))
    np.testing.assert_array_equal(found != found[0, 0, 0], np.broadcast_to(np.arange(64) >= 32, (1, 16, 64)))


def test_near_colours_are_one_region_and_others_are_two():
    image = np.zeros((1, 16, 16, 3), np.uint8)
    image[:, :, 8:] = [100, 0, 0]
    for step, regions in ((29, 1), (31, 2)):
        image[:, :, :8] = [100 + step, 0, 0]
        assert len(np.unique(flattened(image).reshape(-1, 3), axis=0)) == regions


def test_images_that_are_nothing_but_noise_are_grouped_too():
    noise = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    assert flattened(noise).shape == noise.shape
