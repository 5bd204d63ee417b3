"""Random scenes of solids on a ground before a wall, as arrays in camera space.

Camera space is OpenGL's: x right, y up, z towards the camera, which sits at the origin and looks
along -z. Every scene is a function of (seed, split, index) alone. All lengths are in metres.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from mmgen_jax.data.shapes.primitives import KINDS, SOLIDS
from mmgen_jax.modalities.mask import REGIONS

FOV_DEGREES = 40.0  # full field of view, horizontally and vertically
FOCAL = 1.0 / np.tan(np.radians(FOV_DEGREES / 2))  # in units of half the image's width
SLOTS = 3  # the main object and up to two distractors
DISTRACTORS = ("sphere", "box", "cone")
SURFACES = ("wall", "ground", "main", "distractor", "distractor")
SURFACE_REGION = np.array([REGIONS.index(r) for r in ("background", "ground", "object", "distractor", "distractor")])

_SPLITS = {"train": 0, "test": 1}
_DRAWS = 64
_DISTANCE = 6.0
_AREA = (0.20, 0.27)  # share of the image that the main object covers, whatever its kind
_LARGEST = 0.84  # largest extent of the main object from its centre, in units of half the image
_PROBE = 24  # number of rays, each way, that measure the covered area

# Linear albedo of the room, which is muted, so that saturated objects stand out.
_GROUNDS = np.array([[0.64, 0.49, 0.31], [0.32, 0.38, 0.47], [0.38, 0.47, 0.30], [0.52, 0.49, 0.47]])
_WALLS = np.array([[0.42, 0.63, 0.86], [0.90, 0.78, 0.55], [0.78, 0.79, 0.82], [0.86, 0.62, 0.63]])


@dataclass(frozen=True)
class Scenes:
    """N scenes; N leads every array, S = SLOTS, all vectors in camera space.

    Attributes:
      class_id: int32 [N], row of KINDS.
      kind: int [N, S], row of KINDS, -1 for an empty slot; slot 0 is the main object.
      rotation: [N, S, 3, 3], object to camera.
      center: [N, S, 3], metres.
      scale: [N, S], metres per object unit.
      plane_normal: [N, 2, 3] of wall and ground, pointing into the room.
      plane_offset: [N, 2], dot product of the normal with every point of the plane (negative).
      light: [N, 3], unit, towards the light.
      albedo: [N, 5, 3], linear, one row per SURFACES.
      ambient: [N], part of the light that comes from everywhere.
    """

    class_id: np.ndarray
    kind: np.ndarray
    rotation: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    plane_normal: np.ndarray
    plane_offset: np.ndarray
    light: np.ndarray
    albedo: np.ndarray
    ambient: np.ndarray


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


class _Draws:
    """Uniform random numbers of each scene, in a fixed order."""

    def __init__(self, seed: int, split: str, indices: np.ndarray):
        number = split_number(split)
        self._table = np.stack([np.random.default_rng([seed, number, int(i)]).random(_DRAWS) for i in indices], -1)
        self._next = 0

    def __call__(self, low=0.0, high=1.0) -> np.ndarray:
        self._next += 1
        return low + (high - low) * self._table[self._next - 1]


def sample_scenes(seed: int, split: str, indices: np.ndarray) -> Scenes:
    """Scenes of a split; the class of scene i is i modulo the number of kinds, so classes are balanced.

    Args:
      seed: seed of the data set, at least 0.
      split: "train" or "test".
      indices: int [N], not negative.
    """
    indices = np.asarray(indices, np.int64)
    if indices.ndim != 1 or not indices.size or indices.min() < 0 or seed < 0:
        raise ValueError(f"indices: expected a list of numbers from 0 and seed >= 0, got {indices} and seed {seed}")
    draw = _Draws(seed, split, indices)
    class_id = (indices % len(KINDS)).astype(np.int32)
    pitch, yaw = np.radians(draw(13, 25)), np.radians(draw(-16, 16))
    to_camera = turn(0, pitch) @ turn(1, -yaw)
    center, rotation, scale, rest = _main_object(draw, class_id, to_camera, yaw)
    normals = np.stack([to_camera[:, :, 2], to_camera[:, :, 1]], 1)
    offsets = np.stack([(normals[:, 0] * center).sum(-1) - draw(2.3, 3.1), (normals[:, 1] * center).sum(-1) - rest], -1)
    slots = [(class_id.astype(int), rotation, center, scale)]
    reach = scale * np.array([SOLIDS[k].radius for k in KINDS])[class_id]
    side = np.where(draw() < 0.5, -1.0, 1.0)
    for wanted in (draw() < 0.62, draw() < 0.38):
        slots.append(_distractor(draw, wanted, side, to_camera, yaw, center, rest, reach))
        side = -side
    kind, rotation, center, scale = (np.stack(part, 1) for part in zip(*slots, strict=True))
    return Scenes(
        class_id=class_id,
        kind=kind,
        rotation=rotation.astype(np.float32),
        center=center.astype(np.float32),
        scale=scale.astype(np.float32),
        plane_normal=normals.astype(np.float32),
        plane_offset=offsets.astype(np.float32),
        light=_light(draw, to_camera, yaw).astype(np.float32),
        albedo=_albedo(draw).astype(np.float32),
        ambient=draw(0.30, 0.38).astype(np.float32),
    )


def _main_object(draw, class_id, to_camera, yaw):
    """Pose and size of the main object: centre [N, 3], rotation, scale [N], height of the centre [N]."""
    solids = [SOLIDS[KINDS[c]] for c in class_id]
    limits = np.radians([(s.turn, *s.tilt) for s in solids]).T
    heading, about_x, about_z = (limit * draw(-1, 1) for limit in limits)
    to_world = turn(1, yaw + heading) @ turn(0, about_x) @ turn(2, about_z)
    rotation = to_camera @ to_world
    reach = 0.06 * _DISTANCE / FOCAL
    center = np.stack([draw(-reach, reach), draw(-reach, reach), np.full(len(solids), -_DISTANCE)], -1)
    largest = _LARGEST * _DISTANCE / FOCAL / np.array([s.radius for s in solids])
    unit = 0.7 * largest  # small enough for the whole object to be in the image
    area = _covered(class_id, rotation, center, unit)
    scale = np.minimum(unit * np.sqrt(draw(*_AREA) / area), largest)
    down = -to_world[:, 1]  # the world's downward axis in object space
    rest = scale * np.array([s.reach(u) for s, u in zip(solids, down, strict=True)])
    return center, rotation, scale, rest


def _covered(class_id, rotation, center, scale) -> np.ndarray:
    """Share of the image [N] that each main object covers, measured by a coarse grid of rays."""
    steps = (2 * np.arange(_PROBE) + 1) / _PROBE - 1
    u, v = np.meshgrid(steps / FOCAL, -steps / FOCAL)
    rays = np.stack([u.ravel(), v.ravel(), np.full(u.size, -1.0)])
    area = np.zeros(len(class_id))
    for row, name in enumerate(KINDS):
        chosen = np.nonzero(class_id == row)[0]
        if chosen.size:
            back = np.swapaxes(rotation[chosen], 1, 2) / scale[chosen, None, None]
            d = np.swapaxes(back @ rays, 0, 1).reshape(3, -1).astype(np.float32)
            o = np.repeat(-(back @ center[chosen, :, None])[:, :, 0].T, rays.shape[1], 1).astype(np.float32)
            t, _ = SOLIDS[name].intersect(o, d)
            area[chosen] = np.isfinite(t).reshape(chosen.size, -1).mean(-1)
    return area


def _distractor(draw, wanted, side, to_camera, yaw, center, rest, reach):
    """Places one small solid in each scene, on the ground beside the main object; returns its slot."""
    names = np.array([KINDS.index(k) for k in DISTRACTORS])
    kind = names[np.minimum((draw() * len(names)).astype(int), len(names) - 1)]
    radius = draw(0.30, 0.42)
    bound = np.array([s.radius for s in SOLIDS.values()])[kind]
    scale = radius / np.array([1.0 if k == "sphere" else 1.1 for k in KINDS])[kind]
    # Angles from the camera's right, which place it between a little behind and a little before the main object.
    angle = np.radians(draw(-32, 30))
    away = np.maximum(reach * 0.94, 0.75) + scale * bound + draw(0.03, 0.3)
    right, front = side * np.cos(angle) * away, np.sin(angle) * away
    low = np.array([s.reach(np.array([0.0, -1.0, 0.0])) for s in SOLIDS.values()])[kind] * scale
    world = np.stack([right * np.cos(yaw) + front * np.sin(yaw), low - rest, front * np.cos(yaw) - right * np.sin(yaw)])
    position = center + (to_camera @ world.T[:, :, None])[:, :, 0]
    rotation = to_camera @ turn(1, draw(-np.pi, np.pi))
    return np.where(wanted, kind, -1), rotation, position, scale


def _light(draw, to_camera, yaw) -> np.ndarray:
    """Direction to the light [N, 3]: above, in front and to one side, so that shading shows the form of objects."""
    height = np.radians(draw(38, 62))
    aside = yaw + np.radians(draw(15, 65)) * np.where(draw() < 0.5, -1, 1)
    world = np.stack([np.sin(aside) * np.cos(height), np.sin(height), np.cos(aside) * np.cos(height)], -1)
    return (to_camera @ world[:, :, None])[:, :, 0]


def _albedo(draw) -> np.ndarray:
    """Linear colours [N, 5, 3] of SURFACES: a muted room, and saturated objects of different hues."""
    wall, ground = (
        family[(draw() * len(family)).astype(int)] * draw(0.92, 1.08)[:, None] for family in (_WALLS, _GROUNDS)
    )
    hue = draw()
    vivid = [_vivid(hue, draw(0.70, 0.92), draw(0.72, 0.98))]
    for _ in range(SLOTS - 1):
        vivid.append(_vivid(hue + draw(0.25, 0.75), draw(0.60, 0.85), draw(0.65, 0.95)))
    return np.stack([wall, ground, *vivid], 1)


def _vivid(hue, saturation, value) -> np.ndarray:
    """Converts HSV to linear albedo [N, 3]; squaring undoes the curve of displays."""
    colors = [colorsys.hsv_to_rgb(h % 1, s, v) for h, s, v in zip(hue, saturation, value, strict=True)]
    return np.square(colors)
