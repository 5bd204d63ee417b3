"""Angular errors of normals over all pixels of a benchmark together, as papers of normals pool them (DSINE)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmgen_jax.modalities.measure import ANGLES

_STEP = 0.01  # degrees that the median is exact to


@dataclass(frozen=True, eq=False)
class Errors:
    """What is kept of any number of angular errors; those of other images can be added.

    Attributes:
      total, squares: sums of errors in degrees, and of their squares.
      under: number of errors below each of `ANGLES`.
      histogram: numbers of errors in steps of a hundredth of a degree.
    """

    total: float
    squares: float
    under: Int[np.ndarray, " A"]
    histogram: Int[np.ndarray, " S"]

    @classmethod
    def of(cls, degrees: Float[np.ndarray, " N"]) -> Errors:
        """Of errors from 0 to 180 degrees."""
        counts = np.bincount((degrees / _STEP).astype(np.int64), minlength=round(180 / _STEP) + 1)
        under = np.array([(degrees < limit).sum() for limit in ANGLES], np.int64)
        return cls(float(degrees.sum()), float(np.square(degrees).sum()), under, counts)

    def __add__(self, other: Errors) -> Errors:
        return Errors(
            self.total + other.total,
            self.squares + other.squares,
            self.under + other.under,
            self.histogram + other.histogram,
        )

    @property
    def count(self) -> int:
        return int(self.histogram.sum())

    def scores(self) -> dict[str, float]:
        """mean, median and rmse in degrees, and shares of errors under_5 .. under_30. Needs at least one error."""
        count = self.count
        middle = int(np.searchsorted(self.histogram.cumsum(), count / 2))
        found = {"mean": self.total / count, "median": (middle + 0.5) * _STEP, "rmse": (self.squares / count) ** 0.5}
        return found | {f"under_{limit:g}": float(n / count) for limit, n in zip(ANGLES, self.under, strict=True)}
