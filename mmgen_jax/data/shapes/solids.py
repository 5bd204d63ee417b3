"""The kinds of objects that rendered scenes are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmgen_jax.data.shapes import compounds, primitives
from mmgen_jax.data.shapes.compounds import Part, moved, stretched, union
from mmgen_jax.data.shapes.primitives import (
    ARCH_HALF,
    BELL_OFFSET,
    BELL_RADIUS,
    BOX,
    CONE_APEX,
    CONE_BASE,
    CONE_RADIUS,
    CROSS_LENGTH,
    CROSS_WIDTH,
    CYLINDER_HALF,
    CYLINDER_RADIUS,
    TORUS_MAJOR,
    TORUS_MINOR,
)


def _no_part(point: np.ndarray) -> np.ndarray:
    return np.zeros(point.shape[1:], bool)


@dataclass(frozen=True)
class Solid:
    """One kind of object.

    Attributes:
      part: its ray intersection and its reach; the latter puts it on the ground without a gap.
      radius: radius of a ball around the origin that contains the solid.
      bulk: radius of a ball that hides about as much sky from the ground below, and about as much of an image.
      turn: largest yaw away from facing the camera, in degrees.
      tilt: largest tilt (about x, about z) where solids are tilted, in degrees.
      accent: points of its surface [3, P], in object space -> which have the second colour of the object, bool [P].
    """

    part: Part
    radius: float
    bulk: float
    turn: float
    tilt: tuple[float, float] = (0, 0)
    accent: Callable[[np.ndarray], np.ndarray] = _no_part

    @property
    def intersect(self) -> Callable[[np.ndarray, np.ndarray], compounds.Hit]:
        """(origin, direction) float32 [3, P] -> (t [P], normal [3, P]), as `primitives` says."""
        return self.part.intersect

    @property
    def reach(self) -> Callable[[np.ndarray], np.ndarray]:
        """Unit vectors [..., 3] -> how far the solid extends in these directions [...]."""
        return self.part.reach

    @property
    def footprint(self) -> float:
        """Radius of an upright cylinder around the origin that contains the solid while it stands upright."""
        angle = np.linspace(0, np.pi, 181)
        across = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], -1)
        return float(max(self.reach(across).max(), self.reach(-across).max()) * 1.0002)  # between the angles


def _cross_reach(u: np.ndarray) -> np.ndarray:
    size = np.abs(u)
    return CROSS_WIDTH * size.sum(-1) + (CROSS_LENGTH - CROSS_WIDTH) * size.max(-1)


def _torus_reach(u: np.ndarray) -> np.ndarray:
    return TORUS_MAJOR * np.sqrt(np.maximum(1 - u[..., 2] ** 2, 0)) + TORUS_MINOR


_DUMBBELL = Part(primitives.dumbbell, lambda u: BELL_OFFSET * np.abs(u[..., 0]) + BELL_RADIUS)
_ARCH = Part(primitives.arch, compounds.block(ARCH_HALF).reach)
_SNOWMAN = union(
    moved(compounds.ball(0.6), (0, -0.52, 0)),
    moved(compounds.ball(0.44), (0, 0.24, 0)),
    moved(compounds.ball(0.31), (0, 0.8, 0)),
    moved(compounds.rod(0.36, 0.03), (0, 0.99, 0)),
    moved(compounds.rod(0.23, 0.17), (0, 1.16, 0)),
)
_FIR = union(
    moved(compounds.rod(0.17, 0.3), (0, -0.85, 0)),
    compounds.cone(-0.75, 0.3, 0.82),
    compounds.cone(-0.25, 0.75, 0.66),
    compounds.cone(0.25, 1.2, 0.48),
)
_MUSHROOM = union(
    moved(compounds.rod(0.28, 0.45), (0, -0.55, 0)),
    moved(stretched(compounds.dome(), (0.98, 0.88, 0.98)), (0, -0.14, 0)),
)
_CACTUS = union(
    moved(compounds.rod(0.42, 0.2), (0, -0.9, 0)),
    moved(compounds.rod(0.29, 0.8), (0, 0.1, 0)),
    moved(compounds.ball(0.29), (0, 0.9, 0)),
    moved(compounds.rod(0.16, 0.32, axis=0), (0.32, -0.1, 0)),
    moved(compounds.ball(0.16), (0.64, -0.1, 0)),
    moved(compounds.rod(0.16, 0.3), (0.64, 0.2, 0)),
    moved(compounds.ball(0.16), (0.64, 0.5, 0)),
    moved(compounds.rod(0.16, 0.3, axis=0), (-0.3, 0.18, 0)),
    moved(compounds.ball(0.16), (-0.6, 0.18, 0)),
    moved(compounds.rod(0.16, 0.25), (-0.6, 0.43, 0)),
    moved(compounds.ball(0.16), (-0.6, 0.68, 0)),
)
_HOUSE = union(
    moved(compounds.block((0.78, 0.5, 0.62)), (0, -0.5, 0)),
    compounds.gable((1.0, 0.42, 0.76)),
    moved(compounds.block((0.13, 0.3, 0.13)), (0.5, 0.6, 0)),
)
_TOWER = union(
    moved(compounds.rod(0.5, 0.72), (0, -0.33, 0)),
    moved(compounds.rod(0.62, 0.1), (0, 0.3, 0)),
    compounds.cone(0.4, 1.25, 0.76),
)


def _house_accent(p: np.ndarray) -> np.ndarray:
    """Roof, door and windows."""
    door = (np.abs(p[0]) < 0.17) & (p[1] < -0.42)
    window = (np.abs(np.abs(p[0]) - 0.48) < 0.14) & (np.abs(p[1] + 0.42) < 0.16)
    return (p[1] > -0.001) | ((door | window) & (p[2] > 0.61))


def _tower_accent(p: np.ndarray) -> np.ndarray:
    """Roof, gate and window."""
    gate = (np.abs(p[0]) < 0.17) & (p[1] < -0.6)
    window = (np.abs(p[0]) < 0.1) & (np.abs(p[1] + 0.12) < 0.16)
    return (p[1] > 0.399) | ((gate | window) & (p[2] > 0.3))


def _ring_accent(p: np.ndarray) -> np.ndarray:
    """Four of eight sectors."""
    return (p[0] ** 2 - p[1] ** 2) * p[0] * p[1] > 0


SOLIDS: dict[str, Solid] = {
    "sphere": Solid(compounds.ball(1.0), 1.0, 0.85, 180, accent=lambda p: np.abs(p[1]) < 0.2),
    "box": Solid(compounds.block((BOX,) * 3), BOX * 3**0.5, 0.85, 180, (14, 14)),
    "cylinder": Solid(
        compounds.rod(CYLINDER_RADIUS, CYLINDER_HALF),
        (CYLINDER_HALF**2 + CYLINDER_RADIUS**2) ** 0.5,
        0.75,
        180,
        (14, 18),
        lambda p: np.abs(p[1]) > 0.75,
    ),
    "cone": Solid(
        compounds.cone(CONE_BASE, CONE_APEX, CONE_RADIUS),
        max(CONE_APEX, (CONE_BASE**2 + CONE_RADIUS**2) ** 0.5),
        0.75,
        180,
        (14, 18),
        lambda p: p[1] > 0.5,
    ),
    "torus": Solid(
        Part(primitives.torus, _torus_reach), TORUS_MAJOR + TORUS_MINOR, 0.6, 45, (22, 20), accent=_ring_accent
    ),
    "cross": Solid(
        Part(primitives.cross, _cross_reach), (CROSS_LENGTH**2 + 2 * CROSS_WIDTH**2) ** 0.5, 0.65, 45, (14, 18)
    ),
    "dumbbell": Solid(_DUMBBELL, BELL_OFFSET + BELL_RADIUS, 0.4, 40, (0, 14), lambda p: np.abs(p[0]) < 0.5),
    "arch": Solid(_ARCH, float(np.linalg.norm(ARCH_HALF)), 0.55, 40, (8, 8), lambda p: p[1] > 0.72),
    "snowman": Solid(_SNOWMAN, 1.36, 0.6, 180, accent=lambda p: p[1] > 0.959),
    "fir": Solid(_FIR, 1.2, 0.6, 180, accent=lambda p: p[1] < -0.7501),
    "mushroom": Solid(_MUSHROOM, 1.05, 0.7, 180, accent=lambda p: p[1] < -0.1401),
    "cactus": Solid(_CACTUS, 1.2, 0.6, 50, accent=lambda p: p[1] < -0.699),
    "house": Solid(_HOUSE, 1.42, 0.8, 50, accent=_house_accent),
    "tower": Solid(_TOWER, 1.26, 0.65, 60, accent=_tower_accent),
}
KINDS = tuple(SOLIDS)[:8]  # the kinds of the first version of the data set
