"""Planes and spheres as a known camera sees them, by the equations of rays: the truth of tests in three dimensions."""

import numpy as np


def rays(fov, height, width):
    """Directions of unit depth through the centres of pixels."""
    half = np.tan(np.radians(fov) / 2)
    x = (2 * np.arange(width) + 1 - width) / width * half
    y = (height - 1 - 2 * np.arange(height)) / width * half
    return np.stack(np.broadcast_arrays(x, y[:, None], -1.0), -1)


def seen(fov, height, width, planes=(), spheres=()):
    """Depth z [H, W] and normals [H, W, 3] of the nearest surfaces.

    A plane is (normal, distance along it); a sphere is (centre, radius).
    """
    r = rays(fov, height, width)
    z, normals = np.full((height, width), np.inf), np.zeros((height, width, 3))
    for normal, distance in planes:
        n = np.asarray(normal, float) / np.linalg.norm(normal)
        with np.errstate(divide="ignore"):
            t = distance / (r @ n)
        nearer = (t > 0) & (t < z)
        z, normals = np.where(nearer, t, z), np.where(nearer[..., None], n * -np.sign(distance), normals)
    for centre, radius in spheres:
        c = np.asarray(centre, float)
        a, b, d = (r * r).sum(-1), r @ c, c @ c - radius**2
        root = b * b - a * d
        t = np.where(root > 0, (b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        nearer = t < z
        z = np.where(nearer, t, z)
        normals = np.where(nearer[..., None], (r * np.where(nearer, t, 0)[..., None] - c) / radius, normals)
    return z, normals * np.where((normals * r).sum(-1, keepdims=True) > 0, -1, 1)


def room(fov, height=48, width=64):
    """A floor and two walls, with a sphere on the floor: depth and normals."""
    planes = [((0, 1, 0), -1.5), ((0.2, 0, 1), -7), ((1, 0, 0.3), -3.5)]
    return seen(fov, height, width, planes, [((0.5, -0.6, -5), 0.9)])


def relative(z):
    """Relative inverse depth in [0, 1], and the (near, far) that it is relative to."""
    q = 1 / z
    return (q - q.min()) / (q.max() - q.min()), (float(z.min()), float(z.max()))
