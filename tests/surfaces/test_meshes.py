"""Meshes of analytic scenes: points and normals are exact, and there is nothing across holes and jumps."""

import analytic_scenes
import numpy as np

from mmgen_jax.modalities.geometry import angle
from mmgen_jax.surfaces.meshes import mesh

FOV = 50.0


def whole(z):
    return np.ones(z.shape, bool)


def test_a_plane_is_exact():
    z, normal = analytic_scenes.seen(FOV, 20, 30, [((0.5, 0.4, 1), -4)])
    made = mesh(1 / z, normal, FOV, whole(z))
    n = np.array([0.5, 0.4, 1]) / np.linalg.norm([0.5, 0.4, 1])
    np.testing.assert_allclose(made.points @ n, -4, rtol=1e-9)
    assert made.points.shape == (600, 3) and made.faces.shape == (2 * 19 * 29, 3)
    np.testing.assert_allclose(made.normals(), np.broadcast_to(n, (600, 3)), atol=1e-9)
    np.testing.assert_array_equal(made.pixel[31], [1, 1])


def test_a_sphere_is_exact():
    z, normal = analytic_scenes.seen(30.0, 64, 64, spheres=[((0, 0.1, -5), 1)])
    valid = np.isfinite(z)
    made = mesh(1 / np.where(valid, z, 1), normal, 30.0, valid)
    np.testing.assert_allclose(np.linalg.norm(made.points - [0, 0.1, -5], axis=1), 1, rtol=1e-9)
    assert len(made.points) == valid.sum()
    steep = (normal[valid] * made.points).sum(-1) / np.linalg.norm(made.points, axis=1) > -0.5
    errors = angle(made.normals(), normal[valid])
    assert errors[~steep].max() < 3 and (made.points * made.normals()).sum(-1).max() <= 0


def test_a_floor_at_a_grazing_angle_is_one_piece():
    z, normal = analytic_scenes.seen(FOV, 32, 32, [((0, 1, 0), -0.5)])
    valid = np.isfinite(z) & (z < 20)
    z = np.where(valid, z, 1)
    assert np.diff(np.log(z[valid.all(1)]), axis=0).min() < -0.2  # neighbours differ by more than a fifth
    made = mesh(1 / z, normal, FOV, valid)
    rows = valid.all(1).sum()
    assert len(made.faces) == 2 * 31 * (rows - 1)


def test_no_triangle_spans_a_jump():
    z, normal = analytic_scenes.seen(FOV, 16, 16, [((0, 0, 1), -6)])
    z[4:12, 4:12] = 4
    made = mesh(1 / z, normal, FOV, whole(z))
    depth = -made.points[:, 2][made.faces]
    assert (np.ptp(depth, axis=1) < 1e-9).all()
    assert {4.0, 6.0} == set(np.round(depth.ravel(), 6))
    inner = 2 * 7 * 7
    assert (depth[:, 0] < 5).sum() == inner
    # Around it squares with a corner of the nearer wall keep the triangle of the other three.
    assert (depth[:, 0] > 5).sum() == 2 * 15 * 15 - inner - 2 * 4 * 7 - 4


def test_holes_make_no_vertices():
    z, normal = analytic_scenes.seen(FOV, 8, 8, [((0, 0, 1), -6)])
    valid = whole(z)
    valid[3, 3] = False
    made = mesh(1 / np.where(valid, z, np.nan), normal, FOV, valid)
    assert len(made.points) == 63 and np.isfinite(made.points).all()
    assert len(made.faces) == 2 * 49 - 4  # one triangle less in each of the four squares around
    assert len(mesh(1 / z, normal, FOV, np.zeros(z.shape, bool)).points) == 0


def test_values_are_interpolated():
    z, normal = analytic_scenes.seen(FOV, 8, 8, [((0.5, 0.4, 1), -4)])
    made = mesh(1 / z, normal, FOV, whole(z))
    on = made.spread(made.points, 3)
    assert on.shape == (6 * len(made.faces), 3)
    np.testing.assert_allclose(on @ [0.5, 0.4, 1], made.points[0] @ [0.5, 0.4, 1], rtol=1e-9)
