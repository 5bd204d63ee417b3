"""Reads held-out scenes, to condition on or to compare with, from a split of a data set of tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.data.pipeline import Batch
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES


@dataclass(frozen=True)
class Scenes:
    """The first scenes of a split in batches as `pipeline.load` returns them, read whenever they are gone through.

    Attributes:
      directory: of the data set.
      split: name of the split; TFDS slicing works.
      modalities: the modalities to read.
      size: height and width of the tiles, in pixels.
      count: number of scenes.
      batch: number of scenes in a batch.
    """

    directory: str
    split: str
    modalities: tuple[str, ...]
    size: int
    count: int
    batch: int

    @classmethod
    def first(cls, directory: str, split: str, modalities: Sequence[str], size: int, count: int, batch: int) -> Scenes:
        """The first `count` scenes, or all if there are fewer."""
        return cls(
            directory, split, tuple(modalities), size, min(count, len(tiles.read_tiles(directory, split))), batch
        )

    def __iter__(self) -> Iterator[Batch]:
        for i in range(0, self.count, self.batch):
            part = range(i, min(i + self.batch, self.count))
            yield pipeline.load(self.directory, self.split, self.modalities, self.size, part)


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
