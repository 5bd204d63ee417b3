"""The data set of rendered scenes with exact depth, normals and masks, one version for each world."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.core import registered

from mmgen_jax.data import building, tiles
from mmgen_jax.data.shapes.render import render
from mmgen_jax.data.shapes.scenes import FOCAL, FOV_DEGREES
from mmgen_jax.data.shapes.worlds import SINGLE, WORLDS, World
from mmgen_jax.modalities.geometry import depth_to_relative
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.system import console
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import one_of, require

_CHUNK = 256  # number of scenes per call of the renderer


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The values that determine the data set: size of tiles in pixels, scenes per split, seed.

    Raises:
      UsageError: a value is out of range.
    """

    size: int = 32
    train: int = 20_000
    test: int = 2_000
    seed: int = 0

    def __post_init__(self):
        for name, low, high in (("size", 8, 2048), ("train", 1, 10**8), ("test", 1, 10**8), ("seed", 0, 2**31 - 1)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name} is {value}; allowed: {low} to {high}")


def scene_pixels(
    seed: int, split: str, indices: np.ndarray, size: int, world: World = SINGLE
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Renders scenes as stored pixels: ({modality: [N, H, W, C]}, class_id int32 [N])."""
    scene = render(seed, split, indices, size, world=world)
    relative = depth_to_relative(scene["depth"].astype(np.float64), world.depth_range)
    pixels = {
        "rgb": scene["rgb"],
        "depth": to_pixels(2 * relative - 1, np.uint16)[..., None],
        "normal": to_pixels(scene["normal"], np.uint8),
        "mask": world.palette[scene["mask"]],
    }
    return pixels, scene["class_id"]


def _encode(job: tuple[Recipe, str, str, int, int]) -> list[tuple[str, dict]]:
    """Makes (key, example) of the scenes first <= i < last of a split, in a process of a builder."""
    recipe, scenes, split, first, last = job
    pixels, class_id = scene_pixels(recipe.seed, split, np.arange(first, last), recipe.size, WORLDS[scenes])
    keys = [f"{split}-{i:08d}" for i in range(first, last)]
    return [
        (key, tiles.encode_tile({name: p[i] for name, p in pixels.items()}, int(class_id[i]), key))
        for i, key in enumerate(keys)
    ]


# Not in TFDS's process-wide registry: the module may then run as a script and be imported as well.
with registered.skip_registration():

    class Shapes(tfds.core.GeneratorBasedBuilder):
        """Rendered scenes of one of the worlds, each of which is a version."""

        VERSION = tfds.core.Version(SINGLE.version)
        SUPPORTED_VERSIONS: ClassVar = [tfds.core.Version(world.version) for world in WORLDS.values()]
        name = "shapes"
        code_path = epath.Path(__file__)  # TFDS would need importlib_resources to find out

        def __init__(self, *, recipe: Recipe = Recipe(), scenes: str = "single", workers: int = 1, **kwargs):
            self.recipe, self.scenes, self.workers = recipe, scenes, workers
            super().__init__(file_format="array_record", version=WORLDS[scenes].version, **kwargs)

        def _info(self) -> tfds.core.DatasetInfo:
            world = WORLDS[self.scenes]
            metadata = dataclasses.asdict(self.recipe) | {
                "palette": world.palette.tolist(),
                "regions": list(world.regions),
                "depth": "inverse z-depth, (1/z - 1/far) / (1/near - 1/far)",
                "depth_range": list(world.depth_range),
                "fov_degrees": FOV_DEGREES,
                "focal": float(FOCAL),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description=world.description,
                features=tiles.tile_features(self.recipe.size, world.class_names),
                metadata=tfds.core.MetadataDict(metadata),
                disable_shuffling=True,  # record i is scene i, so that classes are balanced in every part of a split
            )

        def _split_generators(self, dl_manager):
            del dl_manager  # nothing is downloaded
            return {split: self._generate_examples(split) for split in ("train", "test")}

        def _generate_examples(self, split: str) -> Iterator[tuple[str, dict]]:
            total = getattr(self.recipe, split)
            jobs = [(self.recipe, self.scenes, split, i, min(i + _CHUNK, total)) for i in range(0, total, _CHUNK)]
            progress = console.Progress(split, total, "scenes")
            with building.Mapper(self.workers) as run:
                for examples in run(_encode, jobs):
                    progress(len(examples))
                    yield from examples


def build(data_dir: str, recipe: Recipe, workers: int = 1, scenes: str = "single") -> str:
    """Renders the data set under `data_dir`, unless it is there already, and returns its folder.

    Args:
      data_dir: folder that the data set is written under.
      recipe: its size and its seed.
      workers: number of processes that render.
      scenes: name of one of WORLDS.

    Raises:
      UsageError: there is no such world, or there is a data set of it with another recipe.
    """
    require("scenes", scenes, one_of(*WORLDS))
    builder = Shapes(recipe=recipe, scenes=scenes, workers=workers, data_dir=data_dir)
    path = str(builder.data_path)
    if builder.data_path.exists():
        there = tiles.read_metadata(path)
        for name, value in dataclasses.asdict(recipe).items():
            if there.get(name) != value:
                raise UsageError(
                    f"{name} is {value}, but the data set in {path} has {there.get(name)}; "
                    "give the same value, another --data_dir, or remove it first"
                )
        console.say(f"already complete: {path}")
        return path
    building.prepare(builder)
    console.say(f"written: {path}")
    return path
