"""Finds which files of trees of images belong together, and makes a tile of each such group.

Depth and normals are resampled as numbers, masks by nearest neighbour, all with the same centre crop. Depth keeps the
scale of its image; it is not stretched to the range of the crop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from mmgen_jax.data import tiles
from mmgen_jax.data.trees import disk
from mmgen_jax.data.trees.look import Look, look
from mmgen_jax.modalities.conventions import Axes, DepthFiles
from mmgen_jax.modalities.decoding import SUFFIXES
from mmgen_jax.modalities.depth import DEPTH
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.files import here


@dataclass(frozen=True)
class Group:
    """The files of one scene.

    Attributes:
      key: unique name in its split.
      files: modality -> file; absent modalities are left out.
      class_id: number of the class, or -1 for none.
    """

    key: str
    files: Mapping[str, str]
    class_id: int = -1

    @property
    def order(self) -> bytes:
        """Sort key of groups in a split: a random but fixed order, so that any part of the split is a fair sample."""
        return hashlib.sha256(self.key.encode()).digest()


@dataclass(frozen=True)
class Reading:
    """How files become pixels.

    Attributes:
      size: height and width of the tiles, in pixels.
      depth: what the numbers of depth files mean.
      axes: which axes the files of normals have.
    """

    size: int
    depth: DepthFiles = DepthFiles()
    axes: Axes = Axes()

    def __post_init__(self):
        if not 8 <= self.size <= 4096:
            raise UsageError(f"size is {self.size}; allowed: 8 to 4096")

    @property
    def metadata(self) -> dict[str, object]:
        """What a data set that was read so says of itself."""
        return {"size": self.size, "normal_axes": self.axes.text} | self.depth.metadata

    def tile(self, group: Group) -> dict[str, np.ndarray]:
        """Reads the pixels of a group. Raises UsageError for a file that cannot be read or has another size."""
        return self.tile_and_look(group)[0]

    def tile_and_look(self, group: Group) -> tuple[dict[str, np.ndarray], Look]:
        """What `tile` returns, and what is seen of it."""
        read, doubts = {}, False
        for m, path in group.files.items():
            if m == "depth":
                numbers, top = DEPTH.numbers(path)
                read[m], doubts = self.depth.stored(numbers, top, Source(f"depth {path}")), self.depth.doubts(numbers)
            else:
                found = MODALITIES[m].read(path)
                read[m] = (self.axes.stored(found) if m == "normal" else found), None
        arrays = {m: array for m, (array, _) in read.items()}
        first = next(iter(arrays))
        height, width = arrays[first].shape[:2]
        for m, array in arrays.items():
            if array.shape[:2] != (height, width):
                raise UsageError(
                    f"{m} {group.files[m]} has {array.shape[1]}x{array.shape[0]} pixels; "
                    f"{first} has {width}x{height}, and all must have the same"
                )
        tile = {m: MODALITIES[m].square(array, self.size, valid) for m, (array, valid) in read.items()}
        told = [m for m, (_, valid) in read.items() if m != "depth" or valid is not None]
        holes = {m: ~MODALITIES[m].valid(tile[m]) for m in told}
        return tile, look(tile, holes, doubts)


def key_of(path: str | PurePath) -> str:
    """The key of a file, of its path below a folder: without its suffix, in composed form."""
    return disk.composed(PurePath(path).with_suffix("").as_posix())


def keyed(files: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Key -> file of pairs of both; raises UsageError for two files with the same key."""
    found: dict[str, str] = {}
    for key, path in files:
        if key in found:
            raise UsageError(f"{path} and {found[key]} have the same name; only one may stay")
        found[key] = str(path)
    return found


def find(folder: str | Path) -> dict[str, str]:
    """Finds all images below a folder: key -> file, sorted by file. See `disk.files` for what is followed and left out.

    Raises UsageError if there are no images, or two with the same key.
    """
    root = Path(here(folder))
    if not root.is_dir():
        raise UsageError(f"folder {str(root)!r} {'is a file' if root.exists() else 'does not exist'}")
    found = keyed((key_of(path.relative_to(root)), path) for path in disk.files(root, SUFFIXES))
    if not found:
        raise UsageError(f"folder {str(root)!r} has no images; allowed: {', '.join(SUFFIXES)}")
    return found


def check_classes(classes: Iterable[str], used: Iterable[str], folder: str) -> None:
    """Raises UsageError for a class without images, which would be learned by nothing, or take the row of the next."""
    used = set(used)
    if empty := [name for name in classes if name not in used]:
        raise UsageError(
            f"class {empty[0]!r} of {folder} has no images, one of {len(empty)}; fill or remove its folder"
        )


def encode(job: tuple[Reading, Sequence[Group]]) -> tuple[list[tuple[str, dict | str]], Look]:
    """Makes examples of groups, in a process of a builder: (key, example or the reason why there is none).

    Also returns what was seen of them.
    """
    (reading, groups), seen = job, Look()
    results: list[tuple[str, dict | str]] = []
    for group in groups:
        try:
            pixels, tile_seen = reading.tile_and_look(group)
            seen.add(tile_seen)
            results.append((group.key, tiles.encode_tile(pixels, group.class_id, group.key)))
        except UsageError as error:
            results.append((group.key, str(error)))
    return results, seen


def absent(groups: Sequence[Group], wanted: Sequence[str]) -> dict[str, list[str]]:
    """Lists, for each modality that is lacking, the keys of the groups that lack it."""
    return {m: keys for m in wanted if (keys := [g.key for g in groups if m not in g.files])}
