"""Reads held-out scenes, to condition on or to compare with, from a split of a data set of tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from etils import epath

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.data.pipeline import Batch
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES


def first(directory: epath.PathLike, split: str, modalities: Sequence[str], size: int, count: int) -> Batch:
    """Reads the first `count` scenes of a split, or all if there are fewer, as `pipeline.load` does."""
    count = min(count, len(tiles.read_tiles(directory, split)))
    return pipeline.load(directory, split, modalities, size, range(count))


def values(
    directory: epath.PathLike,
    split: str,
    modalities: Sequence[str],
    size: int,
    indices: Sequence[int] | np.ndarray,
    facts: Facts,
) -> dict[str, np.ndarray]:
    """Reads the values (see `modalities.modality`) of the scenes at `indices`, of modalities that all of them have.

    Raises UsageError for an index outside the split.
    """
    batch = pipeline.load(directory, split, modalities, size, indices)
    whole = [m for i, m in enumerate(modalities) if batch["present"][:, i].all()]
    return {m: MODALITIES[m].value(to_array(batch[m]), facts) for m in whole}
