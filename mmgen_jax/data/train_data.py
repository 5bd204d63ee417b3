"""What training reads: tiles, or latents that were made of them, behind one value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import grain.python as grain
import numpy as np
from ml_collections import ConfigDict

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.data.latents import folder as latents


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


def open_data(config: ConfigDict) -> TrainData:
    """The train split of `data.latents` if that is set, else of `data.dir`; raises UsageError if it does not fit."""
    chosen = config.data
    if chosen.latents:
        source = latents.read(chosen.latents, chosen.train_split)
        info = latents.read_info(chosen.latents)
        transforms = (latents.Select.checked(info, config),)
        return TrainData(source, transforms, info.class_names, *_regions(info.metadata))
    source = tiles.read_tiles(chosen.dir, chosen.train_split)
    select, flip = pipeline.Select(chosen.modalities, chosen.image_size), pipeline.Flip(chosen.modalities)
    return TrainData(
        source,
        (select, flip) if chosen.flip else (select,),
        tiles.class_names(chosen.dir),
        *_regions(tiles.read_metadata(chosen.dir)),
    )


def _regions(metadata: Mapping) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if "palette" not in metadata:
        return None, ()
    return np.array(metadata["palette"], np.uint8), tuple(metadata["regions"])
