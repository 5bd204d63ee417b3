"""The first version of the data set: one main object, which is the class, and up to two small distractors."""

from __future__ import annotations

import numpy as np

from mmgen_jax.data.shapes.scenes import FOCAL, Draws, Scenes, camera, covered, sun_direction, turn, vivid
from mmgen_jax.data.shapes.solids import KINDS, SOLIDS
from mmgen_jax.modalities.mask import REGIONS

DEPTH_RANGE = (3.5, 11.0)  # metres; every rendered z-depth lies inside
SLOTS = 3  # the main object and up to two distractors
DISTRACTORS = ("sphere", "box", "cone")
SURFACE_REGION = np.array([REGIONS.index(r) for r in ("background", "ground", "object", "distractor", "distractor")])

_DRAWS = 64
_DISTANCE = 6.0
_AREA = (0.20, 0.27)  # share of the image that the main object covers, whatever its kind
_LARGEST = 0.84  # largest extent of the main object from its centre, in units of half the image
_GLOSS = 0.22

# Linear albedo of the room, which is muted, so that saturated objects stand out.
_GROUNDS = np.array([[0.64, 0.49, 0.31], [0.32, 0.38, 0.47], [0.38, 0.47, 0.30], [0.52, 0.49, 0.47]])
_WALLS = np.array([[0.42, 0.63, 0.86], [0.90, 0.78, 0.55], [0.78, 0.79, 0.82], [0.86, 0.62, 0.63]])


def sample_scenes(seed: int, split: str, indices: np.ndarray) -> Scenes:
    """Scenes of a split; the class of scene i is i modulo the number of kinds, so classes are balanced.

    Args:
      seed: seed of the data set, at least 0.
      split: "train" or "test".
      indices: int [N], not negative.
    """
    draw = Draws(seed, split, indices, _DRAWS)
    class_id = (draw.indices % len(KINDS)).astype(np.int32)
    to_camera, yaw = camera(draw, (13, 25), (-16, 16))
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
        light=sun_direction(draw, to_camera, yaw, (38, 62), (15, 65)).astype(np.float32),
        albedo=_albedo(draw).astype(np.float32),
        ambient=draw(0.30, 0.38).astype(np.float32),
        sun_color=np.ones((len(indices), 3), np.float32),
        sky_color=np.ones((len(indices), 3), np.float32),
        region=np.tile(SURFACE_REGION.astype(np.uint8), (len(indices), 1)),
        gloss=np.full((len(indices), len(SURFACE_REGION)), _GLOSS, np.float32),
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
    area = covered(class_id, rotation, center, unit)
    scale = np.minimum(unit * np.sqrt(draw(*_AREA) / area), largest)
    down = -to_world[:, 1]  # the world's downward axis in object space
    rest = scale * np.array([s.reach(u) for s, u in zip(solids, down, strict=True)])
    return center, rotation, scale, rest


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


def _albedo(draw) -> np.ndarray:
    """Linear colours [N, 5, 3] of wall, ground and objects: a muted room, and saturated objects of different hues."""
    wall, ground = (
        family[(draw() * len(family)).astype(int)] * draw(0.92, 1.08)[:, None] for family in (_WALLS, _GROUNDS)
    )
    hue = draw()
    objects = [vivid(hue, draw(0.70, 0.92), draw(0.72, 0.98))]
    for _ in range(SLOTS - 1):
        objects.append(vivid(hue + draw(0.25, 0.75), draw(0.60, 0.85), draw(0.65, 0.95)))
    return np.stack([wall, ground, *objects], 1)
