"""Mean and covariance of features that come in parts, and the Frechet distance of two Gaussians: FID's arithmetic.

All of it is float64, as the distance is a small difference of large numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A mean float64 [D] and a covariance float64 [D, D]."""

    mean: Float[np.ndarray, " D"]
    covariance: Float[np.ndarray, "D D"]


@dataclass(frozen=True, eq=False)
class Moments:
    """What is kept of any number of features; those of other batches, files or hosts can be added, in any order.

    Attributes:
      count: number of features.
      mean: float64 [D].
      scatter: sum of the products of differences from the mean, float64 [D, D].
    """

    count: int
    mean: Float[np.ndarray, " D"]
    scatter: Float[np.ndarray, "D D"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "N D"]) -> Moments:
        """Moments of features of at least one image."""
        numbers = np.asarray(features, np.float64)
        mean = numbers.mean(0)
        apart = numbers - mean
        return cls(len(numbers), mean, apart.T @ apart)

    def __add__(self, other: Moments) -> Moments:
        """The moments of both together (Chan, Golub and LeVeque 1979)."""
        count, apart = self.count + other.count, other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        between = np.outer(apart, apart) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    def gaussian(self) -> Gaussian:
        """The mean and the covariance with n - 1, as `numpy.cov` has it. Raises ValueError for a single image."""
        if self.count < 2:
            raise ValueError(f"there is {self.count} image: a covariance needs at least 2")
        return Gaussian(self.mean, self.scatter / (self.count - 1))


def distance(first: Gaussian, second: Gaussian) -> float:
    """Squared Frechet distance |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two Gaussians (Dowson and Landau 1982).

    The last trace is the sum of the singular values of C1^(1/2) C2^(1/2), so that no root of a matrix that is not
    symmetric is taken, and covariances of too few images, which are singular, need no offset. Never below 0.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(f"means have shapes {first.mean.shape} and {second.mean.shape}: must be equal")
    apart = first.mean - second.mean
    shared = np.linalg.svd(_root(first.covariance).T @ _root(second.covariance), compute_uv=False).sum()
    found = apart @ apart + np.trace(first.covariance) + np.trace(second.covariance) - 2 * shared
    return float(max(found, 0.0))


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix R with R R^T = `covariance`, of as many columns as it has directions.

    Eigenvalues that rounding alone makes are left out: their roots are large.
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    rounding = len(values) * np.finfo(np.float64).eps * values.max(initial=0)
    kept = values > rounding
    return vectors[:, kept] * np.sqrt(values[kept])
