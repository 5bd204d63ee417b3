"""A mesh of a depth map: a vertex for each valid pixel, two triangles for four of them, none across a jump of depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from mmgen_jax.modalities.geometry import rays
from mmgen_jax.surfaces.integration import JUMP, sides

# Corners of four pixels: upper left and right, lower left and right. A square has two diagonals, so that there are two
# ways to cut it; each triangle, counterclockwise as seen from the camera, with the two sides of the square that it has.
_UL, _UR, _LL, _LR = range(4)
_TOP, _BOTTOM, _LEFT, _RIGHT = range(4)
_WAYS = (
    (((_UL, _LL, _UR), (_LEFT, _TOP)), ((_UR, _LL, _LR), (_RIGHT, _BOTTOM))),
    (((_UL, _LL, _LR), (_LEFT, _BOTTOM)), ((_UL, _LR, _UR), (_TOP, _RIGHT))),
)
_DIAGONALS = ((_LL, _UR), (_UL, _LR))


@dataclass(frozen=True)
class Mesh:
    """Triangles in camera space: x right, y up, z towards the camera, which is at the origin.

    Attributes:
      points: vertices, float64 [V, 3].
      pixel: row and column of each vertex, int [V, 2].
      faces: three vertices of each triangle, counterclockwise as seen from the camera, int [F, 3].
    """

    points: np.ndarray
    pixel: np.ndarray
    faces: np.ndarray

    def normals(self) -> Float[np.ndarray, "V 3"]:
        """Unit normals of the vertices, the mean of those of their triangles by area; zero where there are none."""
        a, b, c = (self.points[self.faces[:, i]] for i in range(3))
        across, total = np.cross(b - a, c - a), np.zeros_like(self.points)
        for i in range(3):
            np.add.at(total, self.faces[:, i], across)
        return total / np.maximum(np.linalg.norm(total, axis=-1, keepdims=True), np.finfo(np.float64).tiny)

    def spread(self, values: Float[np.ndarray, "V C"], steps: int) -> Float[np.ndarray, "P C"]:
        """Values of the vertices interpolated to steps (steps + 1) / 2 points on each triangle."""
        i, j = np.meshgrid(np.arange(steps), np.arange(steps))
        inside = i + j < steps
        a, b = (i[inside] + 1 / 3) / steps, (j[inside] + 1 / 3) / steps
        on = np.einsum("sp,fsc->fpc", np.stack([1 - a - b, a, b]), values[self.faces])
        return on.reshape(-1, values.shape[-1])


def mesh(
    inverse_depth: Float[np.ndarray, "H W"],
    normal: Float[np.ndarray, "H W 3"],
    fov: float,
    valid: Bool[np.ndarray, "H W"],
) -> Mesh:
    """The mesh of 1/z > 0 of the valid pixels; `normal` explains how depth changes, `fov` is that of the width."""
    height, width = inverse_depth.shape
    z = 1 / np.where(valid, np.asarray(inverse_depth, np.float64), 1)
    whole = rays(height, width, fov) * z[..., None]
    across, down = connected(z, normal, fov, valid)
    number = np.full(valid.shape, -1)
    number[valid] = np.arange(valid.sum())

    def corners(grid: np.ndarray) -> np.ndarray:
        return np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]])

    bounds = np.stack([across[:-1], across[1:], down[:, :-1], down[:, 1:]])  # top, bottom, left, right
    corner, place = corners(number), corners(whole)
    there = [[bounds[list(kept)].all(0) for _, kept in way] for way in _WAYS]
    count = [first.astype(int) + second for first, second in there]
    length = [np.linalg.norm(place[a] - place[b], axis=-1) for a, b in _DIAGONALS]
    second = (count[1] > count[0]) | ((count[1] == count[0]) & (length[1] < length[0]))
    faces = [
        np.stack([corner[i][kept & (second == way)] for i in triangle], -1)
        for way, triangles in enumerate(_WAYS)
        for (triangle, _), kept in zip(triangles, there[way], strict=True)
    ]
    return Mesh(whole[valid], np.argwhere(valid), np.concatenate(faces))


def connected(
    z: Float[np.ndarray, "H W"], normal: Float[np.ndarray, "H W 3"], fov: float, valid: Bool[np.ndarray, "H W"]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether neighbours are of one surface: bool [H, W - 1] of those in rows, and [H - 1, W] of those in columns.

    They are if both are valid and the normal of one of them explains their difference of depth, up to `JUMP`.
    """
    s, depth = sides(normal, fov, valid), np.log(z).ravel()
    excess = np.abs(depth[s.there] - depth[s.here] - s.rise)
    first, last = np.minimum(s.here, s.there), s.side // 2  # of each pair, and whether it is in a column
    least = np.full((2, z.size), np.inf)
    np.minimum.at(least, (last, first), excess)
    across, down = (least < JUMP).reshape(2, *z.shape)
    return across[:, :-1], down[:-1]
