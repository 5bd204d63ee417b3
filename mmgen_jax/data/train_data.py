"""What training reads: tiles, or latents that were made of them, behind one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grain.python as grain
import numpy as np

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.data.latents import dataset


@dataclass(frozen=True)
class TrainData:
    """A train split and what its data set says about itself.

    Attributes:
      source: records at random access, picklable.
      transforms: decode and select; random ones are keyed by the position of the sample.
      class_names: rows of the class table; empty where nothing has a class.
      palette: uint8 [R, 3], colour of each region of a mask; None where the data set does not say.
      regions: name of each palette row.
    """

    source: Sequence[Mapping]
    transforms: tuple[grain.MapTransform | grain.RandomMapTransform, ...]
    class_names: tuple[str, ...]
    palette: np.ndarray | None
    regions: tuple[str, ...]


def open_tiles(folder: str, split: str, modalities: tuple[str, ...], image_size: int, flip: bool) -> TrainData:
    """A split of a data set of tiles, half of them mirrored if `flip`; raises UsageError if it does not fit."""
    source = tiles.read_tiles(folder, split)
    select, mirror = pipeline.Select(modalities, image_size), pipeline.Flip(modalities)
    return TrainData(
        source,
        (select, mirror) if flip else (select,),
        tiles.class_names(folder),
        *_regions(tiles.read_metadata(folder)),
    )


def open_latents(folder: str, split: str, modalities: tuple[str, ...], **fits: object) -> TrainData:
    """A split of latents, which must fit `fits`, see `latents.Select.checked`; raises UsageError if they do not."""
    source = dataset.read(folder, split)
    info = dataset.read_info(folder)
    transforms = (dataset.Select.checked(info, modalities, **fits),)
    return TrainData(source, transforms, info.class_names, *_regions(info.metadata))


def _regions(metadata: Mapping) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if "palette" not in metadata:
        return None, ()
    return np.array(metadata["palette"], np.uint8), tuple(metadata["regions"])
