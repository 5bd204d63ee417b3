"""Reads held-out scenes, to condition on or to compare with, from a split of a data set of tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from mmgen_jax.data.pipeline import Batch, Reader, open_split
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.console import say


@dataclass(frozen=True)
class Scenes:
    """The first scenes of a split in batches as `Reader.load` returns them, read whenever they are gone through.

    Attributes:
      reader: the split.
      count: number of scenes.
      batch: number of scenes in a batch.
    """

    reader: Reader
    count: int
    batch: int

    @classmethod
    def first(
        cls,
        directory: epath.PathLike,
        split: str,
        modalities: Sequence[str],
        size: int,
        count: int,
        batch: int,
        name: str = "",
    ) -> Scenes:
        """The first `count` scenes, or all if there are fewer, which is said of the setting `name`."""
        reader = open_split(directory, split, modalities, size)
        return cls(reader, at_most(reader, split, count, name), batch)

    def __iter__(self) -> Iterator[Batch]:
        for i in range(0, self.count, self.batch):
            yield self.reader.load(range(i, min(i + self.batch, self.count)))


def at_most(reader: Reader, split: str, count: int, name: str) -> int:
    """`count`, or the number of all scenes if there are fewer, which is said of the setting `name` if that is given."""
    if name and count > len(reader):
        say(f"{name} is {count}; split {split!r} has {len(reader)} scenes, all of which are used")
    return min(count, len(reader))


def first(
    directory: epath.PathLike, split: str, modalities: Sequence[str], size: int, count: int, name: str = ""
) -> Batch:
    """Reads the first scenes of a split, see `at_most`, as `Reader.load` does."""
    reader = open_split(directory, split, modalities, size)
    return reader.load(range(at_most(reader, split, count, name)))


def values(reader: Reader, indices: Sequence[int] | np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
    """Reads the values (see `modalities.modality`) of the scenes at `indices`, of modalities that all of them have.

    Raises UsageError for an index outside the split.
    """
    return of_batch(reader.load(indices), reader.select.modalities, facts)


def of_batch(batch: Batch, modalities: Sequence[str], facts: Facts) -> dict[str, np.ndarray]:
    """Values of the scenes of a batch that was read with these modalities, of those that all of them have."""
    whole = [m for i, m in enumerate(modalities) if batch["present"][:, i].all()]
    return {m: MODALITIES[m].value(to_array(batch[m]), facts) for m in whole}
