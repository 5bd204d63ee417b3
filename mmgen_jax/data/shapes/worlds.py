"""What rendered scenes are like: each world says how its scenes are drawn, and what its data set says of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mmgen_jax.data.shapes import rich, single
from mmgen_jax.data.shapes.scenes import Scenes
from mmgen_jax.data.shapes.solids import KINDS
from mmgen_jax.modalities.mask import PALETTE, REGIONS


@dataclass(frozen=True, eq=False)
class World:
    """One distribution of scenes.

    Attributes:
      version: version of the data set of such scenes.
      description: what they show, in a sentence.
      sample: (seed, split, numbers of scenes int [N]) -> the scenes.
      class_names: names of the classes.
      regions: names of the regions.
      palette: uint8 [R, 3], their colours.
      priority: number below 1 for each region; where two have as many rays of a pixel, the larger one wins.
      depth_range: metres; every rendered z-depth lies inside.
    """

    version: str
    description: str
    sample: Callable[[int, str, np.ndarray], Scenes]
    class_names: tuple[str, ...]
    regions: tuple[str, ...]
    palette: np.ndarray
    priority: tuple[float, ...]
    depth_range: tuple[float, float]


SINGLE = World(
    "1.0.0",
    "Scenes with one main object of eight kinds and up to two small distractors, in front of a wall.",
    single.sample_scenes,
    KINDS,
    REGIONS,
    PALETTE,
    (0.0, 0.1, 0.3, 0.2),  # ties go to the solid, so that thin parts do not vanish
    single.DEPTH_RANGE,
)
RICH = World(
    "2.0.0",
    "Scenes of two to five toys, plants and buildings with patterns in varied light; the largest is the class.",
    rich.sample_scenes,
    rich.CLASSES,
    rich.REGIONS,
    rich.PALETTE,
    (0.0, 0.1, 0.4, 0.3, 0.2),
    rich.DEPTH_RANGE,
)
WORLDS = {"single": SINGLE, "rich": RICH}
