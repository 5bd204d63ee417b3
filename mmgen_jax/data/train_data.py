"""The data that training reads, as one value for tiles and for latents that were made of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grain.python as grain
from etils import epath

from mmgen_jax.data import fingerprint, pipeline, tiles
from mmgen_jax.data.damage import DamagedRecord
from mmgen_jax.data.latents import dataset
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.system.console import say

_SPREAD = 0.618  # multiples of the golden ratio are spread evenly
_SAID = 1000  # number of samples that are read before a line says what is looked for


@dataclass(frozen=True)
class TrainData:
    """A train split, and what its data set says of itself.

    Attributes:
      source: records at random access, picklable.
      transforms: decode a record and select what training wants; random ones are keyed by the sample's position.
      facts: what the data set says of itself; its class names are empty if nothing has a class.
      fingerprint: tells this data set from others, see `fingerprint.same`; all parts of a split have the same.
    """

    source: grain.RandomAccessDataSource
    transforms: tuple[grain.MapTransform | grain.RandomMapTransform, ...]
    facts: Facts
    fingerprint: str


def open_tiles(
    folder: epath.PathLike, split: str, modalities: tuple[str, ...], image_size: int, flip: bool
) -> TrainData:
    """Opens a split of a data set of tiles; `flip` mirrors half of them. Raises UsageError if it does not fit."""
    source = tiles.read_tiles(folder, split)
    metadata = tiles.read_metadata(folder)
    select, mirror = pipeline.Select(modalities, image_size, holes.of(metadata)), pipeline.Flip(modalities)
    return TrainData(
        source,
        (select, mirror) if flip else (select,),
        Facts.from_metadata(metadata, tiles.class_names(folder)),
        _fingerprint(source, split, lambda whole: tiles.read_tiles(folder, whole)),
    )


def open_latents(folder: epath.PathLike, split: str, modalities: tuple[str, ...], **fits: Any) -> TrainData:
    """Opens a split of latents. Raises UsageError if they do not fit the settings in `fits`, see `Select.checked`."""
    source = dataset.read(folder, split)
    info = dataset.read_info(folder)
    transforms = (dataset.Select.checked(info, modalities, **fits),)
    whole = _fingerprint(source, split, lambda whole: dataset.read(folder, whole))
    return TrainData(source, transforms, Facts.from_metadata(info.metadata, info.class_names), whole)


def absent(data: TrainData, modalities: tuple[str, ...]) -> list[str]:
    """The modalities, of those that `data` was opened with, that no sample has.

    Reads samples from all over the split until each modality was seen once: usually one, and all only for the answer
    that something is absent. Damaged records do not count.
    """
    count, left = len(data.source), list(modalities)
    stride = next(step for step in range(int(count * _SPREAD) or 1, 2 * count + 2) if math.gcd(step, count) == 1)
    for number in range(count):
        if number == _SAID:
            say(f"looking for {', '.join(left)}, which none of {_SAID} samples has; there are {count}")
        try:
            sample = data.transforms[0].map(data.source[number * stride % count])
        except DamagedRecord:
            continue
        there = dict(zip(modalities, sample["present"], strict=True))
        left = [m for m in left if not there[m]]
        if not left:
            break
    return left


def _fingerprint(
    source: grain.RandomAccessDataSource, split: str, read: Callable[[str], grain.RandomAccessDataSource]
) -> str:
    """Fingerprint of the whole split that `split` is a part of: of "train", read anew, where it is "train[:10%]"."""
    whole = split.partition("[")[0]
    return fingerprint.of(source if whole == split else read(whole))
