"""What a network made of a set of images, or of some of them: what figures are computed from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mmgen_jax.metrics.gaussians import Gaussian, Moments
from mmgen_jax.metrics.image_sets import ImageSet
from mmgen_jax.metrics.judges import Judge
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import NotFinite


@dataclass(frozen=True)
class Looked:
    """What a network made of images; that of others can be added behind it.

    Attributes:
      features, probabilities: of all images, in their order, float32 [N, D] and [N, K].
      moments: of "features" and, of a network that has them, of "spatial" ones, which are too many to keep.
      sizes: (height, width) of the images.
    """

    features: np.ndarray
    probabilities: np.ndarray
    moments: dict[str, Moments]
    sizes: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def __add__(self, other: Looked) -> Looked:
        return Looked(
            np.concatenate([self.features, other.features]),
            np.concatenate([self.probabilities, other.probabilities]),
            {kind: value + other.moments[kind] for kind, value in self.moments.items()},
            self.sizes | other.sizes,
        )

    @property
    def gaussians(self) -> dict[str, Gaussian]:
        """Mean and covariance of each kind of features of at least two images."""
        return {kind: value.gaussian() for kind, value in self.moments.items()}


def look(images: ImageSet, judge: Judge, name: str, rows: range | None = None) -> Looked:
    """Shows images of a set to a network: those of `rows`, at least one, or all. `name` is the option of the set.

    Raises NotFinite for a network that makes NaN of an image.
    """
    rows = range(images.count) if rows is None else rows
    features, probabilities, sizes = [], [], set()
    moments: dict[str, Moments] = {}
    progress = Progress(name, len(rows), "images")
    for batch in images.batches(rows):
        seen = judge(batch)
        if not np.isfinite(seen.features).all():
            raise NotFinite(f"features of {name} {images.source} are NaN or infinite; look at the network's weights")
        features.append(seen.features)
        probabilities.append(seen.probabilities)
        sizes.add((batch.shape[1], batch.shape[2]))
        for kind, values in (("features", seen.features), ("spatial", seen.spatial)):
            if values is not None:
                part = Moments.of(values)
                moments[kind] = moments[kind] + part if kind in moments else part
        progress(len(batch))
    return Looked(np.concatenate(features), np.concatenate(probabilities), moments, frozenset(sizes))
