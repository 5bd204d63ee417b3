"""Reads batches with Grain: this host's part of the global batch of any step.

The order of samples depends only on the seed and the step. Hosts take parts of the same global batches, random
transforms are keyed by the position of the sample in the order, and a run resumes from the number of its step. So it
continues exactly, even on another number of hosts or reading processes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import grain.python as grain
import numpy as np
from etils import epath

from mmgen_jax.data import tiles
from mmgen_jax.data.damage import REPLACED, Mended, Tally
from mmgen_jax.data.workers import begin, shielded
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

Batch = dict[str, np.ndarray]


@runtime_checkable
class Batches(Protocol):
    """An iterator over batches that must be closed, which ends the threads or processes that read them."""

    def __iter__(self) -> Iterator[Batch]: ...

    def __next__(self) -> Batch: ...

    def close(self) -> None: ...


def mirrored(tile: Batch, modalities: Sequence[str]) -> Batch:
    """A tile of `Select` with some of its modalities mirrored horizontally."""
    found = {m: MODALITIES[m].mirror(tile[m]) for m in modalities}
    valid = {key: tile[key][..., ::-1] for key in map(holes.key, modalities) if key in tile}
    return tile | {key: np.ascontiguousarray(x) for key, x in (found | valid).items()}


@dataclass(frozen=True)
class Flip(grain.RandomMapTransform):
    """Mirrors a tile horizontally with probability 1/2, all its modalities alike."""

    modalities: tuple[str, ...]

    def random_map(self, element: Batch, rng: np.random.Generator) -> Batch:
        if rng.random() < 0.5:
            return element
        return mirrored(element, self.modalities)


@dataclass(frozen=True)
class Select(grain.MapTransform):
    """Decodes a tile to the pixels of the wanted modalities, class_id int32 and present bool [M]; checks its size.

    For each modality in `holes` there is also, at `holes.key`, bool [H, W] that says which pixels have a value. The
    others are filled in, and a modality of which no pixel has a value is absent.
    """

    modalities: tuple[str, ...]
    size: int
    holes: tuple[str, ...] = ()

    def map(self, record: dict) -> Batch:
        tile = tiles.decode_tile(record)
        columns = [tuple(MODALITIES).index(m) for m in self.modalities]
        for m in self.modalities:
            if tile[m].shape[:2] != (self.size, self.size):
                raise UsageError(
                    f"{m} of tile {record.get('key', b'?')!r} is {tile[m].shape[1]}x{tile[m].shape[0]} pixels; "
                    f"data.image_size wants {self.size}x{self.size}"
                )
        wanted = {m: tile[m] for m in self.modalities}
        present = tile["present"][columns]
        for i, m in enumerate(self.modalities):
            if m in self.holes:
                valid = MODALITIES[m].valid(tile[m])
                wanted |= {m: holes.fill(tile[m], valid), holes.key(m): valid}
                present[i] &= valid.any()
        return wanted | {"class_id": np.int32(tile["class_id"]), "present": present}


class _AsIs(grain.MapTransform):
    def map(self, element: Batch) -> Batch:
        return element


class _Join(grain.MapTransform):
    def map(self, element: Sequence[Batch]) -> Batch:
        return {key: np.concatenate([part[key] for part in element]) for key in element[0]}


def batches(
    source: grain.RandomAccessDataSource,
    transforms: Sequence[grain.MapTransform | grain.RandomMapTransform],
    batch: int,
    *,
    seed: int,
    step: int = 0,
    parts: Sequence[int] = (0,),
    of: int = 1,
    workers: int = 0,
    tally: Tally | None = None,
) -> Batches:
    """Yields, without end, this process's part of each global batch, from that of `step` on.

    The data are shuffled anew in every epoch. Close the iterator after use, or let it be collected.

    Args:
      source: records at random access, picklable.
      transforms: applied to each record in turn; random ones are keyed by the position of the sample.
      batch: number of samples in a global batch.
      seed: seed of the order and of random transforms.
      step: number of batches that were used before.
      parts: numbers of the equal parts of each global batch that this process wants, joined in this order.
      of: number of equal parts that a global batch has.
      workers: number of reading processes; 0 reads in threads.
      tally: counts damaged records, which are then replaced. With None the first one raises DamagedRecord.
    """
    if batch % of:
        raise UsageError(f"train.batch is {batch}; it must be divisible by the number of parts that hosts read, {of}")
    if tally:
        decode = tuple(itertools.takewhile(lambda t: isinstance(t, grain.MapTransform), transforms))
        source = mended = Mended(source, decode)
        # Random transforms are keyed by their place in the chain too, which must be the same with and without a tally.
        transforms = (*(_AsIs() for _ in decode), *transforms[len(decode) :])
    dataset = grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    for transform in transforms:
        random = isinstance(transform, grain.RandomMapTransform)
        dataset = dataset.random_map(transform) if random else dataset.map(transform)
    dataset = dataset.batch(batch // of)
    chosen = [dataset[step * of + part :: of] for part in parts]
    dataset = chosen[0] if len(chosen) == 1 else grain.experimental.ZipMapDataset(chosen).map(_Join())
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    if workers:
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers), begin)
    found = _started(dataset) if workers else iter(dataset)
    return _counted(found, mended, tally) if tally else found


def _started(dataset: grain.IterDataset) -> Generator[Batch, None, None]:
    """Yields the batches that workers read. The workers start with the first one, and are shielded from signals."""
    with shielded():
        batches = iter(dataset)
        first = next(batches)
    with contextlib.closing(batches):
        yield first
        yield from batches


def _counted(batches: Batches, source: Mended, tally: Tally) -> Generator[Batch, None, None]:
    """Yields the same batches, and counts replaced records when a batch is used, not when it is read ahead."""
    with contextlib.closing(batches):
        for batch in batches:
            tally.note(batch.pop(REPLACED), source.damages)
            yield batch


@dataclass(frozen=True)
class Reader:
    """A split that was opened once, of which any samples are read as one batch; `open_split` makes one.

    Attributes:
      source: the records of the split.
      select: decodes a record to the modalities that are wanted.
      split: its name, for messages.
    """

    source: tiles.Source
    select: Select
    split: str

    def __len__(self) -> int:
        return len(self.source)

    def key(self, index: int) -> str:
        """The key of the sample at `index`, by which a data set and its files name it."""
        return tiles.key_of(self.source[index])

    def numbers(self) -> dict[str, int]:
        """Key -> number of each sample of the split."""
        return {self.key(i): i for i in range(len(self))}

    def load(self, indices: Sequence[int] | np.ndarray, tally: Tally | None = None) -> Batch:
        """Reads the samples at `indices` as one batch in that order.

        Damaged records are replaced if there is a `tally`. Raises UsageError for an index outside the split.
        """
        wanted = [int(i) for i in indices]
        outside = [i for i in wanted if not 0 <= i < len(self)]
        if outside:
            raise UsageError(f"index {outside[0]} of split {self.split!r}; allowed: 0 to {len(self) - 1}")
        mended = Mended(self.source, (self.select,))
        samples = [mended[i] if tally else mended.read(i) for i in wanted]
        batch = {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
        if tally:
            tally.note(batch.pop(REPLACED), mended.damages)
        return batch


def open_split(directory: epath.PathLike, split: str, modalities: Sequence[str], size: int) -> Reader:
    """Opens a split of a data set of tiles of `size` x `size` pixels. Raises UsageError as `tiles.read_tiles` does."""
    source = tiles.read_tiles(directory, split)
    return Reader(source, Select(tuple(modalities), size, holes.of(tiles.read_metadata(directory))), split)


def load(
    directory: epath.PathLike,
    split: str,
    modalities: Sequence[str],
    size: int,
    indices: Sequence[int] | np.ndarray | None,
) -> Batch:
    """Reads the samples at `indices` of a split (None means all) as one batch in that order; see `Reader.load`."""
    reader = open_split(directory, split, modalities, size)
    return reader.load(range(len(reader)) if indices is None else indices)
