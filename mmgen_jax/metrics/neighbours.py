"""Precision and recall of samples by their nearest neighbours (Kynkäänniemi et al. 2019), as ADM reports them."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

NEIGHBOUR = 3  # which nearest neighbour the radius of a feature reaches to, itself not counted
_ROWS = 1000  # features whose distances to all others are in memory


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
    # Distances are differences of squares, whose rounding is least around the mean.
    centre = np.mean(reference, 0, dtype=np.float64)
    a, b = ((x - centre).astype(np.float32) for x in (samples, reference))
    return _share_within(a, b, _radii(b)), _share_within(b, a, _radii(a))
