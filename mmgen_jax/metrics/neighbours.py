"""Distances of features: nearest and mean ones; precision and recall (Kynkäänniemi et al. 2019) as ADM has them."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmgen_jax.system.console import Progress

NEIGHBOUR = 3  # which nearest neighbour the radius of a feature reaches to, itself not counted
_ROWS = 1000  # features whose distances to all others are in memory
_COLUMNS = 20_000  # the others, where they may be a whole training set


@jax.jit
def _distances(a: Float[Array, "N D"], b: Float[Array, "M D"]) -> Float[Array, "N M"]:
    """Squared distances, in full float32 precision."""
    product = jnp.matmul(a, b.T, precision=jax.lax.Precision.HIGHEST)
    return jnp.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * product, 0)


def _chunks(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    for i in range(0, len(a), _ROWS):
        yield np.asarray(_distances(jnp.asarray(a[i : i + _ROWS]), jnp.asarray(b)))


def _radii(features: np.ndarray) -> np.ndarray:
    """Squared distance of each feature to its neighbour, [N]; the nearest one of all is itself."""
    return np.concatenate([np.partition(part, NEIGHBOUR, 1)[:, NEIGHBOUR] for part in _chunks(features, features)])


def _share_within(features: np.ndarray, others: np.ndarray, radii: np.ndarray) -> float:
    """Share of features that lie within the radius of at least one of the others."""
    return float(np.concatenate([(part <= radii).any(1) for part in _chunks(features, others)]).mean())


def precision_recall(samples: Float[np.ndarray, "N D"], reference: Float[np.ndarray, "M D"]) -> tuple[float, float]:
    """Share of samples within the reference, and of the reference within the samples.

    A feature is within a set if it is no farther from one of its members than that is from its third neighbour there.
    ADM computes distances in float16; here they are float32. Both numbers of features matter: more make higher shares.
    Raises ValueError for fewer than four features, which have no third neighbour.
    """
    if min(len(samples), len(reference)) <= NEIGHBOUR:
        raise ValueError(f"there are {len(samples)} and {len(reference)} features: at least {NEIGHBOUR + 1} are needed")
    a, b = (_around(x, _centre(reference)) for x in (samples, reference))
    return _share_within(a, b, _radii(b)), _share_within(b, a, _radii(a))


def _centre(features: np.ndarray) -> np.ndarray:
    """The mean, around which rounding is least: distances are differences of squares."""
    return np.asarray(features.mean(0, dtype=np.float64))


def _around(features: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return (features - centre).astype(np.float32)


@jax.jit
def _nearest(a: Float[Array, "N D"], b: Float[Array, "M D"]) -> tuple[Float[Array, " N"], Int[Array, " N"]]:
    squares = _distances(a, b)
    return squares.min(1), squares.argmin(1)


def nearest(
    features: Float[np.ndarray, "N D"], others: Float[np.ndarray, "M D"], label: str
) -> tuple[Float[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Euclidean distance of each feature to the nearest of the others, float64, and the number of that one.

    The others may be many, as only some are in use at once. `label` is for the progress meter.
    """
    centre = _centre(others)
    progress = Progress(label, len(features), "images")
    found = []
    for i in range(0, len(features), _ROWS):
        a = jnp.asarray(_around(features[i : i + _ROWS], centre))
        parts = []
        for j in range(0, len(others), _COLUMNS):
            squares, numbers = map(np.asarray, _nearest(a, jnp.asarray(_around(others[j : j + _COLUMNS], centre))))
            parts.append((squares, numbers.astype(np.int64) + j))
        best = np.argmin([squares for squares, _ in parts], 0)
        found.append(np.stack([numbers for _, numbers in parts])[best, np.arange(len(a))])
        progress(len(a))
    numbers = np.concatenate(found)
    # From the differences themselves: of two copies, squares leave more than nothing.
    chunks = [slice(i, i + _ROWS) for i in range(0, len(features), _ROWS)]
    apart = (np.asarray(features[rows], np.float64) - others[numbers[rows]] for rows in chunks)
    return np.concatenate([np.linalg.norm(part, axis=1) for part in apart]), numbers


@jax.jit
def _sums(a: Float[Array, "N D"], b: Float[Array, "M D"], first: Int[Array, ""]) -> Float[Array, " N"]:
    """Sums of the distances of each of `a` to all of `b`, among which it is itself: the first one is number `first`."""
    own = first + jnp.arange(len(a))[:, None] == jnp.arange(len(b))
    return jnp.where(own, 0, jnp.sqrt(_distances(a, b))).sum(1)


def mean_distance(features: Float[np.ndarray, "N D"]) -> float:
    """The mean Euclidean distance of all pairs of different features; raises ValueError for fewer than two."""
    count = len(features)
    if count < 2:
        raise ValueError(f"there are {count} features: at least 2 are needed")
    x = jnp.asarray(_around(features, _centre(features)))
    sums = [_sums(x[i : i + _ROWS], x, jnp.asarray(i)) for i in range(0, count, _ROWS)]
    return float(sum(np.asarray(part, np.float64).sum() for part in sums) / (count * (count - 1)))
