"""Depth that is integrated from normals, on analytic scenes: what is right stays, and what is wrong gets better."""

import analytic_scenes
import numpy as np
import pytest

from mmgen_jax.surfaces.integration import integrate

FOV = 50.0


def bent(z, share=0.03):
    """Depth with waves, as networks make them."""
    y, x = np.mgrid[: z.shape[0], : z.shape[1]]
    return z * (1 + share * np.sin(x / 1.7) * np.cos(y / 2.1))


def test_a_plane_with_its_normals_stays_as_it_is():
    z, normal = analytic_scenes.seen(FOV, 24, 32, [((0.5, 0.4, 1), -4)])
    np.testing.assert_allclose(integrate(1 / z, normal, FOV), 1 / z, rtol=1e-5)


@pytest.mark.parametrize("scene", ["plane", "sphere", "room"])
def test_waves_go(scene):
    if scene == "plane":
        z, normal = analytic_scenes.seen(FOV, 48, 64, [((0.5, 0.4, 1), -4)])
    elif scene == "sphere":
        z, normal = analytic_scenes.seen(FOV, 48, 64, [((0, 0, 1), -9)], [((0, 0, -5), 1.4)])
    else:
        z, normal = analytic_scenes.room(FOV)
    found = 1 / integrate(1 / bent(z), normal, FOV)
    before, after = (np.median(np.abs(x / z - 1)) for x in (bent(z), found))
    assert after < 0.25 * before


def test_a_jump_stays():
    z, normal = analytic_scenes.seen(FOV, 32, 32, [((0, 0, 1), -6)])
    z[:, 16:] = 4  # another wall before it
    found = 1 / integrate(1 / bent(z, 0.01), normal, FOV)
    np.testing.assert_allclose(found[:, 15], 6, rtol=0.01)
    np.testing.assert_allclose(found[:, 16], 4, rtol=0.01)


def test_what_is_thin_stays_before_what_is_behind_it():
    """Both sides of a pole of one pixel are jumps, and its normal is the wall's: only depth tells them apart."""
    z, normal = analytic_scenes.seen(FOV, 32, 32, [((0, 0, 1), -6)])
    z[:, 16] = 4
    found = 1 / integrate(1 / bent(z, 0.01), normal, FOV)
    np.testing.assert_allclose(found[:, 16], 4, rtol=0.01)
    np.testing.assert_allclose(found[:, [13, 19]], 6, rtol=0.01)


def test_units_do_not_matter():
    z, normal = analytic_scenes.room(FOV)
    found = integrate(1 / bent(z), normal, FOV)
    np.testing.assert_allclose(integrate(1000 / bent(z), normal, FOV), 1000 * found, rtol=1e-6)


def test_holes_have_no_say_and_stay():
    z, normal = analytic_scenes.seen(FOV, 24, 32, [((0.5, 0.4, 1), -4)])
    valid = np.ones(z.shape, bool)
    valid[5:9, 10:30] = valid[:, 0] = False
    spoilt = np.where(valid, 1 / z, 77)
    found = integrate(spoilt, np.where(valid[..., None], normal, 0), FOV, valid)
    np.testing.assert_allclose(found, spoilt, rtol=1e-5)
    nothing = np.zeros(z.shape, bool)
    np.testing.assert_array_equal(integrate(1 / z, normal, FOV, nothing), 1 / z)


def test_nothing_is_continued_across_regions():
    """Normals that are wrong in one region do not move the other one, of which they would otherwise."""
    z, normal = analytic_scenes.seen(FOV, 32, 32, [((0, 0, 1), -6)])
    regions = np.zeros(z.shape, int)
    regions[:, 16:] = 1
    wrong = np.where((np.arange(32) >= 16)[None, :, None], np.array([0.5, 0, np.sqrt(0.75)]), normal)
    apart = integrate(1 / z, wrong, FOV, regions=regions, reach=1.0)
    np.testing.assert_allclose(apart[:, :16], 1 / 6, rtol=1e-6)
    assert np.abs(integrate(1 / z, wrong, FOV, reach=1.0)[:, :16] * 6 - 1).max() > 0.01
