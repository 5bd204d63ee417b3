"""The data that training reads, as one value for tiles and for latents that were made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grain.python as grain
import numpy as np
from etils import epath

from mmgen_jax.data import fingerprint, pipeline, tiles
from mmgen_jax.data.latents import dataset


@dataclass(frozen=True)
class TrainData:
    """A train split, and what its data set says of itself.

    Attributes:
      source: records at random access, picklable.
      transforms: decode a record and select what training wants; random ones are keyed by the sample's position.
      class_names: names of the classes; empty if nothing has a class.
      palette: uint8 [R, 3], the colour of each region of a mask; None if the data set has no palette.
      regions: name of each row of the palette.
      fingerprint: tells this data set from others, see `fingerprint.same`; all parts of a split have the same.
    """

    source: grain.RandomAccessDataSource
    transforms: tuple[grain.MapTransform | grain.RandomMapTransform, ...]
    class_names: tuple[str, ...]
    palette: np.ndarray | None
    regions: tuple[str, ...]
    fingerprint: str


def open_tiles(
    folder: epath.PathLike, split: str, modalities: tuple[str, ...], image_size: int, flip: bool
) -> TrainData:
    """Opens a split of a data set of tiles; `flip` mirrors half of them. Raises UsageError if it does not fit."""
    source = tiles.read_tiles(folder, split)
    select, mirror = pipeline.Select(modalities, image_size), pipeline.Flip(modalities)
    return TrainData(
        source,
        (select, mirror) if flip else (select,),
        tiles.class_names(folder),
        *_regions(tiles.read_metadata(folder)),
        _fingerprint(source, split, lambda whole: tiles.read_tiles(folder, whole)),
    )


def open_latents(folder: epath.PathLike, split: str, modalities: tuple[str, ...], **fits: Any) -> TrainData:
    """Opens a split of latents. Raises UsageError if they do not fit the settings in `fits`, see `Select.checked`."""
    source = dataset.read(folder, split)
    info = dataset.read_info(folder)
    transforms = (dataset.Select.checked(info, modalities, **fits),)
    whole = _fingerprint(source, split, lambda whole: dataset.read(folder, whole))
    return TrainData(source, transforms, info.class_names, *_regions(info.metadata), whole)


def _fingerprint(
    source: grain.RandomAccessDataSource, split: str, read: Callable[[str], grain.RandomAccessDataSource]
) -> str:
    """Fingerprint of the whole split that `split` is a part of: of "train", read anew, where it is "train[:10%]"."""
    whole = split.partition("[")[0]
    return fingerprint.of(source if whole == split else read(whole))


def _regions(metadata: Mapping) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if "palette" not in metadata:
        return None, ()
    return np.array(metadata["palette"], np.uint8), tuple(metadata["regions"])
