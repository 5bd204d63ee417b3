"""What the painters of the page paint with: colours that mean something to each kind of modality."""

from __future__ import annotations

import numpy as np

from mmgen_jax.modalities.directions import Directions
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.modality import Modality, Scalar
from mmgen_jax.modalities.regions import Regions

Brush = tuple[str, str]  # its name and its colour, "#rrggbb"; the first of several is also the ground of new pictures

_SIDES = {-1: "left", 0: "", 1: "right"}
_HEIGHTS = {1: "up", 0: "", -1: "down"}
_LEVELS = 9
_COLOURS = (
    ("grey", (128, 128, 128)),
    ("white", (255, 255, 255)),
    ("black", (20, 20, 20)),
    ("red", (205, 60, 50)),
    ("orange", (230, 140, 50)),
    ("yellow", (235, 205, 70)),
    ("green", (80, 160, 80)),
    ("teal", (60, 160, 160)),
    ("blue", (60, 110, 205)),
    ("purple", (130, 80, 180)),
    ("brown", (130, 95, 65)),
    ("sky", (165, 200, 235)),
)


def of(kind: Modality, facts: Facts) -> list[Brush]:
    """The brushes of a modality: regions by their names, levels of numbers, directions, or plain colours."""
    if isinstance(kind, Regions) and len(facts.palette):
        names = facts.regions or tuple(f"region {i}" for i in range(len(facts.palette)))
        return [(name, _hex(color)) for name, color in zip(names, facts.palette, strict=True)]
    if isinstance(kind, Scalar):
        levels = np.linspace(0, 1, _LEVELS)
        return [(f"{level:.2f}{_end(level)}", _hex(np.full(3, round(255 * level)))) for level in levels]
    if isinstance(kind, Directions):
        faces = [(x, y) for y in (0, 1, -1) for x in (0, -1, 1)]
        return [(_face(x, y), _hex(kind.picture(_direction(x, y), facts))) for x, y in faces]
    return [(name, _hex(np.array(color))) for name, color in _COLOURS]


def free(kind: Modality, facts: Facts) -> str:
    """What a colour may be besides those of the brushes: any "colour", any "level" of grey, or "" for none."""
    if isinstance(kind, Scalar):
        return "level"
    fixed = isinstance(kind, Directions) or (isinstance(kind, Regions) and len(facts.palette))
    return "" if fixed else "colour"


def _end(level: float) -> str:
    return {0.0: " (far)", 1.0: " (near)"}.get(float(level), "")


def _face(x: int, y: int) -> str:
    return " ".join(part for part in (_HEIGHTS[y], _SIDES[x]) if part) or "to the camera"


def _direction(x: int, y: int) -> np.ndarray:
    vector = np.array([x, y, 1], np.float32)
    return vector / np.linalg.norm(vector)


def _hex(color: np.ndarray) -> str:
    return "#" + bytes(color.astype(np.uint8).tolist()).hex()
