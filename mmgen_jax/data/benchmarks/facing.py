"""Tells which axes normals are in by what can be seen: a surface that is seen faces the camera.

With the ray d from the camera to a pixel, its normal n has n d < 0. In other axes many pixels seem to look away.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmgen_jax.modalities.conventions import Axes

CLEAR = 0.005  # share of pixels by which the best axes must be ahead of all others
_ORDERS, _SIGNS = list(itertools.permutations(range(3))), list(itertools.product((1, -1), repeat=3))
_PAIRS = list(itertools.product(_ORDERS, _SIGNS))


def _axes(order: tuple[int, ...], signs: tuple[int, ...]) -> Axes:
    return Axes(",".join("-" * (sign < 0) + "xyz"[i] for i, sign in zip(order, signs, strict=True)))


ALL = tuple(_axes(*pair) for pair in _PAIRS)


@dataclass(frozen=True, eq=False)
class Facing:
    """What was seen of some images; that of others can be added.

    Attributes:
      pixels: number of pixels.
      away: number of them that seem to face away from the camera if normals are in each of the axes `ALL`.
    """

    pixels: int
    away: Int[np.ndarray, "48"]

    @classmethod
    def of(cls, normals: Float[np.ndarray, "N 3"], rays: Float[np.ndarray, "N 3"]) -> Facing:
        """Of normals in unknown axes, and rays whose x is right, y up and z towards the camera."""
        products = normals[:, :, None] * rays[:, None, :]
        away = [
            int((sum(sign * products[:, i, k] for k, (i, sign) in enumerate(zip(*pair, strict=True))) >= 0).sum())
            for pair in _PAIRS
        ]
        return cls(len(normals), np.array(away, np.int64))

    def __add__(self, other: Facing) -> Facing:
        return Facing(self.pixels + other.pixels, self.away + other.away)

    def share(self, axes: Axes) -> float:
        """Share of pixels that face away in these axes."""
        return float(self.away[ALL.index(axes)] / max(self.pixels, 1))

    def told(self) -> Axes | None:
        """The axes in which fewest pixels face away; None if others do about as well."""
        best, second = np.argsort(self.away, kind="stable")[:2]
        ahead = (self.away[second] - self.away[best]) / max(self.pixels, 1)
        return ALL[best] if ahead > CLEAR else None
