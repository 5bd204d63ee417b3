"""Things that are unions of simple solids: each is a list of parts that know their ray intersection and their reach."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mmgen_jax.data.shapes import primitives
from mmgen_jax.data.shapes.primitives import nearest

Hit = tuple[np.ndarray, np.ndarray]


class Part(NamedTuple):
    """A solid in the object space of what it is a part of.

    Attributes:
      intersect: (origin, direction) float32 [3, P] -> (t [P], normal [3, P]), as `primitives` says.
      reach: unit vectors [..., 3] -> how far the solid extends in these directions [...] (its support function).
    """

    intersect: Callable[[np.ndarray, np.ndarray], Hit]
    reach: Callable[[np.ndarray], np.ndarray]


def union(*parts: Part) -> Part:
    """All parts as one solid."""
    return Part(
        lambda o, d: nearest(*(part.intersect(o, d) for part in parts)),
        lambda u: np.max([part.reach(u) for part in parts], 0),
    )


def moved(part: Part, by: tuple[float, float, float]) -> Part:
    """The part at another place."""
    shift = np.array(by, np.float32)[:, None]
    return Part(lambda o, d: part.intersect(o - shift, d), lambda u: part.reach(u) + u @ np.array(by))


def stretched(part: Part, by: tuple[float, float, float]) -> Part:
    """The part with each axis times a number above 0."""
    factor = np.array(by, np.float32)[:, None]

    def intersect(o: np.ndarray, d: np.ndarray) -> Hit:
        t, normal = part.intersect(o / factor, d / factor)
        normal = normal / factor
        return t, normal / np.maximum(np.sqrt((normal * normal).sum(0)), np.float32(1e-9))

    def reach(u: np.ndarray) -> np.ndarray:
        long = u * np.array(by)
        length = np.linalg.norm(long, axis=-1)
        return length * part.reach(long / np.maximum(length, 1e-9)[..., None])

    return Part(intersect, reach)


def ball(radius: float) -> Part:
    """A ball around the origin."""
    return Part(lambda o, d: primitives.ball(o, d, radius), lambda u: np.full(u.shape[:-1], radius))


def block(half: tuple[float, float, float]) -> Part:
    """A box around the origin with sides along the axes."""
    return Part(lambda o, d: primitives.block(o, d, half), lambda u: (np.abs(u) * np.asarray(half)).sum(-1))


def rod(radius: float, half: float, axis: int = 1) -> Part:
    """A cylinder with flat ends around the origin."""
    return Part(
        lambda o, d: primitives.rod(o, d, radius, half, axis),
        lambda u: half * np.abs(u[..., axis]) + radius * _across(u, axis),
    )


def cone(foot: float, tip: float, radius: float) -> Part:
    """A cone that stands upright, from y = foot, where its radius is given, to y = tip."""
    return Part(
        lambda o, d: primitives.cone(o, d, foot, tip, radius),
        lambda u: np.maximum(tip * u[..., 1], foot * u[..., 1] + radius * _across(u, 1)),
    )


def dome() -> Part:
    """The upper half of a ball of radius 1 around the origin, with a flat bottom."""
    return Part(primitives.dome, lambda u: np.where(u[..., 1] > 0, 1.0, _across(u, 1)))


def gable(half: tuple[float, float, float]) -> Part:
    """A roof: a prism along z from y = 0, where it is 2 half[0] wide, to its ridge at x = 0 and y = 2 half[1]."""
    x, y, z = half

    def reach(u: np.ndarray) -> np.ndarray:
        return np.maximum(2 * y * u[..., 1], x * np.abs(u[..., 0])) + z * np.abs(u[..., 2])

    return Part(lambda o, d: primitives.gable(o, d, half), reach)


def _across(u: np.ndarray, axis: int) -> np.ndarray:
    return np.sqrt(np.maximum(1 - u[..., axis] ** 2, 0))
