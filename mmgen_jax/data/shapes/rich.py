"""The second version of the data set: two to five objects of three families, with patterns, in varied light.

The class is the kind of the largest object, which stands near the middle. Its size in the image, its colours, its
pattern, its light and the objects beside it do not depend on the class. Other objects may be of any kind, also of
those that are no class, so that a class is known by what the largest object looks like and by nothing else. Regions are
families, so that they can be told from an image alone.
"""

from __future__ import annotations

import functools

import numpy as np

from mmgen_jax.data.shapes.coats import PATTERNS, RATES, WAVES, Coats
from mmgen_jax.data.shapes.scenes import FOCAL, ROOM, Draws, Scenes, camera, covered, sun_direction, turn, vivid
from mmgen_jax.data.shapes.solids import SOLIDS
from mmgen_jax.modalities.mask import FAMILIES

DEPTH_RANGE = (3.0, 14.0)  # metres; every rendered z-depth lies inside
_TOYS = ("sphere", "torus", "snowman", "box", "cylinder", "cone", "cross", "dumbbell")
_PLANTS, _BUILDINGS = ("fir", "mushroom", "cactus"), ("house", "tower", "arch")
KINDS = dict(zip(FAMILIES, (_TOYS, _PLANTS, _BUILDINGS), strict=True))
CLASSES = (*_TOYS[:3], *_PLANTS, *_BUILDINGS)
REGIONS = ("background", "ground", *FAMILIES)
# All triangles of these five colours are acute, so that any mixture of two of them is nearest to one of both: no more
# than five points in space are like that. They are an equilateral triangle and two greys on its axis.
PALETTE = np.array([[217, 217, 217], [38, 38, 38], [255, 128, 0], [0, 255, 128], [128, 0, 255]], np.uint8)
SLOTS = 5

_STREAM = (2,)
_DRAWS = 320
_TRIES = 16  # places that are tried for each object
_AREA = (0.115, 0.15)  # share of the image that the main object covers alone, whatever its kind
_LARGEST = 0.72  # largest extent of the main object from its centre, in units of half the image
_SMALLER = (0.42, 0.60)  # size of other objects, compared with the main one
_WIDEST = 0.62  # radius on the ground that other objects may have, compared with the main one's in the image
_LARGER = 0.75  # largest size that another object may have in the image, compared with the main one
_APART = 0.8  # least distance of objects in the image, compared with the sum of their radii
_GAP = 0.04  # least distance of objects from each other and from the wall, in metres

# Linear albedo of the room, which is less saturated than what stands in it.
_GROUNDS = np.array(
    [
        [0.60, 0.44, 0.27],
        [0.30, 0.36, 0.46],
        [0.34, 0.47, 0.24],
        [0.50, 0.47, 0.45],
        [0.72, 0.60, 0.42],
        [0.80, 0.80, 0.84],
        [0.52, 0.30, 0.22],
        [0.26, 0.22, 0.30],
    ]
)
_WALLS = np.array(
    [
        [0.42, 0.68, 0.96],
        [0.97, 0.85, 0.58],
        [0.86, 0.88, 0.94],
        [0.96, 0.66, 0.65],
        [0.60, 0.87, 0.70],
        [0.71, 0.64, 0.95],
        [0.17, 0.24, 0.46],
        [0.98, 0.72, 0.48],
    ]
)
_CREAM, _WOOD = np.array([0.94, 0.89, 0.78]), np.array([0.20, 0.11, 0.06])
_WARM, _COOL = np.array([[1.12, 0.98, 0.80], [0.86, 0.97, 1.20]]), np.array([[0.92, 0.99, 1.10], [1.06, 1.0, 0.92]])
_ON_WALLS = ("plain", "shade", "shade", "clouds", "stripes", "bands", "dots")
_ON_GROUNDS = ("plain", "checks", "checks", "stripes", "clouds", "marble")
_ON_OBJECTS = ("plain", "plain", "plain", "stripes", "bands", "checks", "dots", "marble", "clouds")


def _rows(names: tuple[str, ...], table: tuple[str, ...]) -> np.ndarray:
    return np.array([table.index(name) for name in names])


def _chosen(number: np.ndarray, options: np.ndarray) -> np.ndarray:
    """One of the options for each number in [0, 1)."""
    return options[(number * len(options)).astype(int)]


_NAMES = tuple(SOLIDS)
_FAMILY = np.array([next((list(KINDS).index(f) for f, kinds in KINDS.items() if name in kinds)) for name in _NAMES])
_RADIUS, _FOOT = (np.array([getattr(s, a) for s in SOLIDS.values()]) for a in ("radius", "footprint"))
_LOW = np.array([s.reach(np.array([0.0, -1.0, 0.0])) for s in SOLIDS.values()])  # from the centre to the ground
_TURN = np.radians([s.turn for s in SOLIDS.values()])


@functools.cache
def _faces() -> np.ndarray:
    """For each of SOLIDS the radius of a disc that is as large as the solid looks from the front."""
    count, far = len(SOLIDS), 20.0
    rotation, scale = turn(1, 0.6 * _TURN), np.full(count, 0.5 * far / FOCAL)
    area = covered(np.arange(count), rotation, np.tile([0, 0, -far], (count, 1)), scale)
    return np.sqrt(4 * area / np.pi) / 0.5


def sample_scenes(seed: int, split: str, indices: np.ndarray) -> Scenes:
    """Scenes of a split; the class of scene i is i modulo the number of classes, so classes are balanced.

    Args:
      seed: seed of the data set, at least 0.
      split: "train" or "test".
      indices: int [N], not negative.
    """
    draw = Draws(seed, split, indices, _DRAWS, _STREAM)
    count = len(indices)
    class_id = (draw.indices % len(CLASSES)).astype(np.int32)
    to_camera, yaw = camera(draw, (10, 30), (-24, 24))
    placed = _Placed(draw, _rows(CLASSES, _NAMES)[class_id], to_camera, yaw)
    wanted = 1 + (draw() * (SLOTS - 1)).astype(int)
    for slot in range(1, SLOTS):
        placed.add(draw, wanted >= slot)
    kind, rotation, center, scale = (
        np.stack(part, 1) for part in (placed.kind, placed.rotation, placed.center, placed.scale)
    )
    warm = draw()[:, None, None]
    sun, sky = np.moveaxis(warm * _WARM + (1 - warm) * _COOL, 1, 0)
    albedo, second, accent = _colors(draw, count)
    return Scenes(
        class_id=class_id,
        kind=kind,
        rotation=rotation.astype(np.float32),
        center=center.astype(np.float32),
        scale=scale.astype(np.float32),
        region=np.concatenate([np.tile([0, 1], (count, 1)), ROOM + _FAMILY[kind]], 1).astype(np.uint8),
        plane_normal=placed.planes.astype(np.float32),
        plane_offset=placed.offsets.astype(np.float32),
        light=sun_direction(draw, to_camera, yaw, (32, 60), (12, 65)).astype(np.float32),
        ambient=draw(0.34, 0.50).astype(np.float32),
        sun_color=sun.astype(np.float32),
        sky_color=sky.astype(np.float32),
        albedo=albedo.astype(np.float32),
        gloss=np.stack([np.zeros(count)] * ROOM + [draw(0.0, 0.4) for _ in range(SLOTS)], 1).astype(np.float32),
        coats=_coats(draw, to_camera, rotation, center, scale, second, accent),
    )


class _Placed:
    """Objects on the ground before the wall: where those are that have a place, and places for more."""

    def __init__(self, draw: Draws, kind: np.ndarray, to_camera: np.ndarray, yaw: np.ndarray):
        """Places the main object, and with it the ground and the wall.

        Its size is what makes it cover the wanted share of the image.
        """
        self._to_camera, self._yaw = to_camera, yaw
        distance = draw(5.6, 6.6)
        rotation = to_camera @ turn(1, yaw + _TURN[kind] * draw(-1, 1))
        half = distance / FOCAL  # half the image's height in metres, where the object is
        center = np.stack([draw(-0.22, 0.22) * half, draw(-0.18, 0.0) * half, -distance], -1)
        largest = _LARGEST * half / _RADIUS[kind]
        wanted = draw(*_AREA)
        unit = 0.7 * largest
        scale = np.minimum(unit * np.sqrt(wanted / covered(kind, rotation, center, unit)), largest)
        self._size = np.sqrt(4 * wanted / np.pi) * half
        self.kind, self.rotation, self.center, self.scale = [kind], [rotation], [center], [scale]
        self._in_view = [np.stack([*self._seen(center)[:2], np.sqrt(4 * wanted / np.pi)])]
        self._on_ground = [np.zeros((len(kind), 2))]
        # The ground's normal, and what is level and straight away from the camera.
        self._up = to_camera[:, :, 1]
        self._back = np.stack([np.zeros_like(yaw), self._up[:, 2], -self._up[:, 1]], -1)
        self._foot = center - self._up * (scale * _LOW[kind])[:, None]
        self.planes = np.stack([to_camera[:, :, 2], self._up], 1)
        behind = (self.planes[:, 0] * center).sum(-1) - np.maximum(draw(1.8, 4.0), scale * _FOOT[kind] + _GAP)
        self.offsets = np.stack([behind, (self._up * self._foot).sum(-1)], -1)

    def add(self, draw: Draws, wanted: np.ndarray) -> None:
        """Adds an object of any family at the first of some places that is free, in scenes that want one."""
        count = len(wanted)
        families = [_rows(kinds, _NAMES) for kinds in KINDS.values()]
        family = (draw() * len(families)).astype(int)
        number = draw()
        kind = np.choose(family, [_chosen(number, rows) for rows in families])
        scale = np.minimum(draw(*_SMALLER) / _faces()[kind], _WIDEST / _FOOT[kind]) * self._size
        rotation = self._to_camera @ turn(1, self._yaw + _TURN[kind] * draw(-1, 1))
        best = np.zeros((count, 3)), np.zeros((count, 2)), np.zeros((count, 3))
        found = np.zeros(count, bool)
        for across, back in [(draw(-0.86, 0.86), draw(-1.8, 2.8)) for _ in range(_TRIES)] + [self._beside(kind, scale)]:
            center, ground = self._stand(kind, scale, across, back)
            free, view = self._is_free(kind, scale, center, ground)
            new = free & ~found
            for old, value in zip(best, (center, ground, np.stack(view, -1)), strict=True):
                old[new] = value[new]
            found |= free
        there = wanted & found
        self.kind.append(np.where(there, kind, -1))
        for values, value in ((self.rotation, rotation), (self.center, best[0]), (self.scale, scale)):
            values.append(value)
        self._on_ground.append(best[1])
        self._in_view.append(best[2].T)

    def _seen(self, center: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place in the image, in units of half of it, and what metres are there."""
        unit = FOCAL / -center[:, 2]
        return center[:, 0] * unit, center[:, 1] * unit, unit

    def _beside(self, kind: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A place beside the main object where there is more room, which is free as long as nothing else is there."""
        away = self.scale[0] * _FOOT[self.kind[0]] + scale * _FOOT[kind] + 2 * _GAP
        x = self.center[0][:, 0]
        return (x - np.copysign(away, x)) * FOCAL / -self.center[0][:, 2], np.zeros_like(away)

    def _stand(self, kind, scale, across, back) -> tuple[np.ndarray, np.ndarray]:
        """Centre [N, 3] of objects that stand `back` metres behind the main one and are seen at x = `across`.

        Also returns their places on the ground, [N, 2] metres to the right of the main object and behind it.
        """
        center = self._foot + back[:, None] * self._back + (scale * _LOW[kind])[:, None] * self._up
        x = across * -center[:, 2] / FOCAL
        ground = np.stack([x - self._foot[:, 0], back], -1)
        center[:, 0] = x
        return center, ground

    def _is_free(self, kind, scale, center, ground):
        """Whether nothing is in the way [N], neither in the room nor in the image, and what is seen of it."""
        x, y, unit = self._seen(center)
        size = scale * _faces()[kind] * unit
        foot = scale * _FOOT[kind]
        free = (np.abs(x) + 0.5 * size < 1) & (np.abs(y) + 0.7 * size < 1)
        free &= size < _LARGER * self._in_view[0][2]
        free &= (self.planes[:, 0] * center).sum(-1) - self.offsets[:, 0] > foot + _GAP
        free &= -center[:, 2] - scale * _RADIUS[kind] > DEPTH_RANGE[0] + _GAP
        for i, (other_x, other_y, other_size) in enumerate(self._in_view):
            near = np.hypot(x - other_x, y - other_y) < _APART * (size + other_size)
            gone = self.scale[i] * _FOOT[self.kind[i]] + foot + _GAP
            near |= np.linalg.norm(ground - self._on_ground[i], axis=-1) < gone
            free &= ~(near & (self.kind[i] >= 0))
        return free, (x, y, size)


def _colors(draw: Draws, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear albedo, second colour and accent [N, ROOM + SLOTS, 3] of all surfaces."""
    wall, ground = (_chosen(draw(), family) * draw(0.88, 1.08)[:, None] for family in (_WALLS, _GROUNDS))
    walls = _CREAM + (wall - _CREAM) * draw(0.35, 0.8)[:, None]
    grounds = ground * draw(0.5, 0.85)[:, None]
    albedo, second, accent = [wall, ground], [walls, grounds], [wall, ground]
    first = draw()
    for slot in range(SLOTS):
        # Steps of the golden ratio keep the hues of all objects apart.
        hue = first + 0.381966 * slot + draw(-0.06, 0.06)
        saturation, value = draw(0.55, 0.92), draw(0.72, 1.0)
        albedo.append(vivid(hue, saturation, value))
        light, dark = vivid(hue, 0.25 * saturation, np.ones(count)), vivid(hue, saturation, 0.55 * value)
        near, far = vivid(hue + draw(0.09, 0.16), saturation, value), vivid(hue + draw(0.38, 0.62), saturation, value)
        second.append(np.choose((4 * draw()).astype(int)[:, None], [light, light, dark, near]))
        wood, cream = np.broadcast_to(_WOOD, light.shape), np.broadcast_to(_CREAM, light.shape)
        accent.append(np.choose((4 * draw()).astype(int)[:, None], [cream, wood, far, far]))
    return np.stack(albedo, 1), np.stack(second, 1), np.stack(accent, 1)


def _coats(draw: Draws, to_camera, rotation, center, scale, second, accent) -> Coats:
    """Patterns of all surfaces: along the wall, on the ground, and in the axes of each object."""
    waves, axes, phases = [], [], []

    def add(names: tuple[str, ...], basis: np.ndarray, length: np.ndarray, origin: np.ndarray) -> None:
        """A pattern of some length in the plane of two unit vectors, basis [N, 2, 3], from an origin [N, 3]."""
        pattern = _chosen(draw(), _rows(names, PATTERNS))
        along = 2 * np.pi * RATES[pattern][:, :, None] / length[:, None, None] * basis
        waves.append(WAVES[pattern])
        axes.append(along)
        phases.append(2 * np.pi * np.stack([draw(), draw()], -1) - (along @ origin[:, :, None])[:, :, 0])

    right, up, front = (to_camera[:, :, i] for i in range(3))
    add(_ON_WALLS, np.stack([right, up], 1), draw(0.8, 1.5), center[:, 0])
    angle = draw(-np.pi / 4, np.pi / 4)[:, None]
    level = np.stack([np.cos(angle) * right + np.sin(angle) * front, np.cos(angle) * front - np.sin(angle) * right], 1)
    add(_ON_GROUNDS, level, draw(1.1, 1.9), center[:, 0])
    for slot in range(SLOTS):
        tilt = draw(-0.35, 0.35)
        plane = np.stack(
            [
                np.stack([np.cos(tilt), np.sin(tilt), 0.4 + 0 * tilt], -1),
                np.stack([-np.sin(tilt), np.cos(tilt), 0.2 + 0 * tilt], -1),
            ],
            1,
        )
        basis = plane @ np.swapaxes(rotation[:, slot], 1, 2)
        size = scale[:, slot] * (1.0 if slot == 0 else 2.0)
        add(_ON_OBJECTS, basis, size * draw(0.55, 0.95), center[:, slot])
    stacked = (np.stack(part, 1) for part in (waves, axes, phases))
    return Coats(*(part.astype(np.float32) for part in (*stacked, second, accent)))
