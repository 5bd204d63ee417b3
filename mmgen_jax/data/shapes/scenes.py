"""Scenes of solids on a ground before a wall, as arrays in camera space, and what all samplers of them share.

Camera space is OpenGL's: x right, y up, z towards the camera, which sits at the origin and looks
along -z. Every scene is a function of (seed, split, index) alone. All lengths are in metres.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgen_jax.data.shapes.coats import Coats
from mmgen_jax.data.shapes.solids import SOLIDS

FOV_DEGREES = 40.0  # full field of view, horizontally and vertically; one for all scenes, as `Facts` has one
FOCAL = 1.0 / np.tan(np.radians(FOV_DEGREES / 2))  # in units of half the image's width
ROOM = 2  # number of surfaces before those of the objects: the wall is number 0, the ground 1, slot i is ROOM + i

_SPLITS = {"train": 0, "test": 1}
_PROBE = 24  # number of rays, each way, that measure the covered area


@dataclass(frozen=True)
class Scenes:
    """N scenes of up to S objects; N leads every array, all vectors in camera space.

    Attributes:
      class_id: int32 [N], number of the class.
      kind: int [N, S], row of SOLIDS, -1 for an empty slot; slot 0 is the main object.
      rotation: [N, S, 3, 3], object to camera.
      center: [N, S, 3], metres.
      scale: [N, S], metres per object unit.
      region: uint8 [N, ROOM + S], region of each surface.
      plane_normal: [N, 2, 3] of wall and ground, pointing into the room.
      plane_offset: [N, 2], dot product of the normal with every point of the plane (negative).
      light: [N, 3], unit, towards the light.
      ambient: [N], part of the light that comes from everywhere.
      sun_color, sky_color: [N, 3], colours of the light from one side and from everywhere, 1 is white.
      albedo: [N, ROOM + S, 3], linear, of each surface.
      gloss: [N, ROOM + S], strength of highlights.
      coats: patterns on surfaces; None where each has one colour.
    """

    class_id: np.ndarray
    kind: np.ndarray
    rotation: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    region: np.ndarray
    plane_normal: np.ndarray
    plane_offset: np.ndarray
    light: np.ndarray
    ambient: np.ndarray
    sun_color: np.ndarray
    sky_color: np.ndarray
    albedo: np.ndarray
    gloss: np.ndarray
    coats: Coats | None = None


def split_number(split: str) -> int:
    """Number of a split in the random stream; ValueError names an unknown one."""
    if split not in _SPLITS:
        raise ValueError(f"split: {split!r} is not known; allowed: {', '.join(_SPLITS)}")
    return _SPLITS[split]


def turn(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotation matrices [N, 3, 3] about x (0), y (1) or z (2) by radians [N]."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((*np.shape(angle), 3, 3))
    matrix[..., axis, axis] = 1
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., j, i] = np.sin(angle)
    matrix[..., i, j] = -np.sin(angle)
    return matrix


class Draws:
    """Uniform random numbers of each scene, in a fixed order, at most `count` of them.

    `stream` tells apart kinds of scenes, which would else share their numbers. `indices` are the scenes, int64 [N].
    """

    def __init__(self, seed: int, split: str, indices: np.ndarray, count: int, stream: tuple[int, ...] = ()):
        """Raises ValueError if an index or the seed is negative, if there is no index, and for an unknown split."""
        self.indices = indices = np.asarray(indices, np.int64)
        if indices.ndim != 1 or not indices.size or indices.min() < 0 or seed < 0:
            raise ValueError(f"indices: expected a list of numbers from 0 and seed >= 0, got {indices} and seed {seed}")
        number = split_number(split)
        generators = [np.random.default_rng([seed, number, int(i), *stream]) for i in indices]
        self._table = np.stack([generator.random(count) for generator in generators], -1)
        self._next = 0

    def __call__(self, low=0.0, high=1.0) -> np.ndarray:
        self._next += 1
        return low + (high - low) * self._table[self._next - 1]


def camera(draw: Draws, pitch: tuple[float, float], yaw: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Rotation from world to camera [N, 3, 3] and yaw [N] in radians, of cameras that look down by `pitch`.

    Both ranges are in degrees, from and to.
    """
    down, aside = np.radians(draw(*pitch)), np.radians(draw(*yaw))
    return turn(0, down) @ turn(1, -aside), aside


def covered(kind: np.ndarray, rotation: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Share of the image [N] that each of N objects covers alone, measured by a coarse grid of rays.

    Args:
      kind: row of SOLIDS [N].
      rotation, center, scale: pose [N, 3, 3], [N, 3], [N], as of `Scenes`.
    """
    steps = (2 * np.arange(_PROBE) + 1) / _PROBE - 1
    u, v = np.meshgrid(steps / FOCAL, -steps / FOCAL)
    rays = np.stack([u.ravel(), v.ravel(), np.full(u.size, -1.0)])
    area = np.zeros(len(kind))
    for row, solid in enumerate(SOLIDS.values()):
        chosen = np.nonzero(kind == row)[0]
        if chosen.size:
            back = np.swapaxes(rotation[chosen], 1, 2) / scale[chosen, None, None]
            d = np.swapaxes(back @ rays, 0, 1).reshape(3, -1).astype(np.float32)
            o = np.repeat(-(back @ center[chosen, :, None])[:, :, 0].T, rays.shape[1], 1).astype(np.float32)
            t, _ = solid.intersect(o, d)
            area[chosen] = np.isfinite(t).reshape(chosen.size, -1).mean(-1)
    return area


def vivid(hue: Sequence[float] | np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Converts HSV to linear albedo [N, 3]; squaring undoes the curve of displays."""
    colors = [colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in zip(hue, saturation, value, strict=True)]
    return np.square(colors)


def sun_direction(
    draw: Draws, to_camera: np.ndarray, yaw: np.ndarray, height: tuple[float, float], aside: tuple[float, float]
) -> np.ndarray:
    """Direction to the light [N, 3]: above, in front and to one side, so that shading shows the form of objects.

    Args:
      draw: random numbers.
      to_camera: [N, 3, 3], world to camera.
      yaw: [N], radians of the camera.
      height: degrees above the ground, from and to.
      aside: degrees to either side of the camera, from and to.
    """
    up = np.radians(draw(*height))
    around = yaw + np.radians(draw(*aside)) * np.where(draw() < 0.5, -1, 1)
    world = np.stack([np.sin(around) * np.cos(up), np.sin(up), np.cos(around) * np.cos(up)], -1)
    return (to_camera @ world[:, :, None])[:, :, 0]
