"""Small results at the size of a photo: planes stay planes, and edges are those of the photo."""

import numpy as np
import pytest

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import angle
from mmgen_jax.modalities.mask import PALETTE, REGIONS
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.modalities.upsampling import Upsampler

DEPTH, NORMAL, MASK = (MODALITIES[m] for m in ("depth", "normal", "mask"))
HEIGHT, WIDTH, SMALL = 90, 140, (18, 28)


def centres(count, length):
    return (np.arange(count) + 0.5) / count * length


@pytest.fixture
def photo():
    """Two colours that meet along a slanted edge: bool [H, W] and uint8 [H, W, 3]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    left = x + 0.3 * y < 80
    return left, np.where(left[..., None], np.uint8([200, 30, 60]), np.uint8([40, 160, 90]))


def small(array):
    """The pixels in the middles of those that are smaller."""
    rows, columns = (np.floor(centres(s, n)).astype(int) for s, n in zip(SMALL, array.shape[:2], strict=True))
    return array[rows[:, None], columns]


def test_a_plane_stays_a_plane():
    grey = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    y, x = (centres(s, 1) for s in SMALL)
    found = DEPTH.enlarged((0.2 + 0.3 * y[:, None] + 0.4 * x).astype(np.float32), Upsampler(grey, *SMALL), Facts())
    truth = 0.2 + 0.3 * centres(HEIGHT, 1)[:, None] + 0.4 * centres(WIDTH, 1)
    inside = np.s_[10:-10, 10:-10]  # beyond the outermost small pixels there is nothing to go by
    np.testing.assert_allclose(found[inside], truth[inside], atol=1e-6)
    np.testing.assert_allclose(found, truth, atol=0.02)


def test_edges_are_those_of_the_photo(photo):
    left, colours = photo
    values = np.where(left, 0.8, 0.3).astype(np.float32)
    found = DEPTH.enlarged(small(values), Upsampler(colours, *SMALL), Facts())
    assert np.abs(found - values).mean() < 0.004
    blurred = DEPTH.enlarged(small(values), Upsampler(np.zeros_like(colours), *SMALL), Facts())
    assert np.abs(blurred - values).mean() > 4 * np.abs(found - values).mean()


def test_regions_are_picked_and_follow_the_photo(photo):
    left, colours = photo
    ids = np.where(left, 2, 1).astype(np.int32)
    found = MASK.enlarged(small(ids), Upsampler(colours, *SMALL), Facts(PALETTE, REGIONS))
    assert set(np.unique(found)) == {1, 2} and found.dtype == np.int32
    assert (found != ids).mean() < 0.005


def test_normals_stay_of_length_one(photo):
    left, colours = photo
    normals = np.where(left[..., None], [0.6, 0, 0.8], [0, 0.8, 0.6]).astype(np.float32)
    found = NORMAL.enlarged(small(normals), Upsampler(colours, *SMALL), Facts())
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-5)
    assert angle(found, normals).mean() < 1


def test_the_same_size_and_smaller_ones_work(rng):
    value = rng.random((12, 9)).astype(np.float32)
    colours = np.full((5, 4, 3), 7, np.uint8)
    assert DEPTH.enlarged(value, Upsampler(colours, 12, 9), Facts()).shape == (5, 4)
