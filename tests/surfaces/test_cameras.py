"""The camera of analytic scenes: estimated from depth and normals, or assumed where these do not tell it."""

import analytic_scenes
import numpy as np
import pytest

from mmgen_jax.surfaces.cameras import ASSUMED, ESTIMATED, FAR, FOV, GIVEN, OF_DATA, view
from mmgen_jax.system.errors import UsageError


@pytest.mark.parametrize("fov", [30.0, 55.0, 90.0])
def test_field_of_view_and_range_of_a_room(fov):
    z, normal = analytic_scenes.room(fov)
    depth, (near, far) = analytic_scenes.relative(z)
    found = view(depth, normal)
    assert (found.fov_is, found.range_is, found.metric) == (ESTIMATED, ESTIMATED, False)
    assert found.camera.fov == pytest.approx(fov, abs=1)
    assert found.camera.near == 1
    assert found.camera.far == pytest.approx(far / near, rel=0.05)


def test_field_of_view_where_the_range_is_known():
    z, normal = analytic_scenes.room(50.0)
    depth, depth_range = analytic_scenes.relative(z)
    found = view(depth, normal, depth_range=depth_range)
    assert (found.fov_is, found.range_is, found.metric) == (ESTIMATED, OF_DATA, True)
    assert found.camera.fov == pytest.approx(50, abs=0.7)
    assert found.camera.depth_range == pytest.approx(depth_range)


def test_outliers_hardly_move_an_estimate(rng):
    z, normal = analytic_scenes.room(50.0)
    depth, (near, far) = analytic_scenes.relative(z)
    wrong = rng.random(z.shape) < 0.1
    others = rng.normal(size=normal.shape)
    others /= np.linalg.norm(others, axis=-1, keepdims=True)
    found = view(depth, np.where(wrong[..., None], others, normal))
    assert found.camera.fov == pytest.approx(50, abs=2.5)
    assert found.camera.far == pytest.approx(far / near, rel=0.15)


def test_waves_of_a_large_picture_hardly_move_an_estimate():
    """Slopes of waves are larger the finer the pixels are; they must not count as slopes of the surface."""
    z, normal = analytic_scenes.room(50.0, 190, 254)
    depth, depth_range = analytic_scenes.relative(z * (1 + 0.003 * np.sin(np.arange(254))))
    assert view(depth, normal, depth_range=depth_range).camera.fov == pytest.approx(50, abs=2)


def test_invalid_pixels_have_no_say():
    z, normal = analytic_scenes.room(50.0)
    depth, _ = analytic_scenes.relative(z)
    valid = np.ones(z.shape, bool)
    valid[:, :20] = False
    spoilt = np.where(valid[..., None], normal, [1.0, 0, 0])
    found = view(np.where(valid, depth, 0), spoilt, valid=valid)
    assert found.camera.fov == pytest.approx(50, abs=1)


def test_one_plane_tells_one_of_the_two():
    z, normal = analytic_scenes.seen(FOV, 32, 40, [((0.4, 0.3, 1), -4)])
    depth, (near, far) = analytic_scenes.relative(z)
    found = view(depth, normal)
    assert (found.fov_is, found.range_is) == (ASSUMED, ESTIMATED)
    assert found.camera.fov == pytest.approx(FOV)
    assert found.camera.far == pytest.approx(far / near, rel=0.01)
    known = view(depth, normal, fov=FOV)
    assert (known.fov_is, known.range_is) == (GIVEN, ESTIMATED)
    assert known.camera.far == pytest.approx(far / near, rel=0.01)


def test_what_nothing_tells_is_assumed():
    depth, normal = np.full((16, 16), 0.5), np.broadcast_to([0.0, 0, 1], (16, 16, 3))
    for found in (view(depth), view(depth, normal)):
        assert (found.fov_is, found.range_is) == (ASSUMED, ASSUMED)
        assert (found.camera.fov, found.camera.near, found.camera.far) == (FOV, 1, FAR)
    assert "60.0 degrees (assumed), depth 1 to 10 times the nearest distance (assumed)" in str(found)


def test_what_is_known_is_said():
    depth = np.full((8, 8), 0.5)
    assert str(view(depth, fov=40.0, data_fov=30.0)).startswith("field of view 40.0 degrees (given)")
    found = view(depth, data_fov=30.0, depth_range=(2.0, 5.0))
    assert str(found) == "field of view 30.0 degrees (of the data set), depth 2 to 5 metres (of the data set)"
    with pytest.raises(UsageError, match="fov is 175"):
        view(depth, data_fov=175.0)
