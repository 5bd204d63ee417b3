"""Sets of rgb images to compare: a folder of files, a data set of tiles, or an ADM .npz, read some at a time."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from etils import epath

from mmgen_jax.data import description, tiles
from mmgen_jax.data.trees import groups
from mmgen_jax.metrics.gaussians import Gaussian
from mmgen_jax.modalities.pixels import center_crop
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files.npz import Npz

ARRAY = "arr_0"  # ADM's name of the images
STATISTICS = {"features": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}  # ADM's names of mean and covariance
_SAMPLE = re.compile(r"rgb_(\d+)\.png")  # in folders of samples, where pictures of other modalities stand beside them
_NETWORK = "network"  # beside statistics: the digest of the network, uint8 [32], which other programs do not read
_BATCH = 64


@dataclass(frozen=True)
class ImageSet:
    """Images, or what is left of them, or both.

    Attributes:
      source: where they are, for messages.
      count: number of images; 0 for statistics alone.
      batches: reads those of these numbers, which ascend, uint8 [n, H, W, 3] with any n; all of a batch have one size.
      marks: what tells the images of a range from others without reading them: the names below the folder, sizes and
        times of their files. The same on all machines that see one folder.
      gaussians: "features" and "spatial" -> what is known of all images of a reference without looking at them.
      digest: of the network that these are of; "" where the file does not tell.
      class_names: of a data set; none for others.
    """

    source: str
    count: int
    batches: Callable[[Sequence[int]], Iterator[np.ndarray]]
    marks: Callable[[range], list[str]]
    gaussians: dict[str, Gaussian] = field(default_factory=dict)
    digest: str = ""
    class_names: tuple[str, ...] = ()


def read(path: epath.PathLike, name: str, split: str = "train", size: int = 0) -> ImageSet:
    """Opens a set of images. `name` is the option that gave the path.

    Args:
      path: an .npz of ADM with images as `arr_0`, statistics as `mu`, `sigma`, `mu_s` and `sigma_s`, or both; a folder
        of samples, of which the files rgb_*.png count, in the order of their numbers; any other folder of image files
        and of folders of either kind, at any depth; or a data set.
      split: of a data set.
      size: side in pixels that images of folders and data sets are cropped and resized to, as ADM does; 0: none.

    Raises:
      UsageError: there is nothing of that kind, or no image in it.
    """
    place = files.here(path, name)
    kind = files.kind(place)
    if kind == "a file" and place.suffix.lower() == ".npz":
        return _npz(place, name)
    if kind != "a folder":
        raise UsageError(f"{name} {place} is {kind or 'not there'}; allowed: a folder of images, a data set, an .npz")
    whole = any(any(place.glob(f"{'*/' * depth}{description.INFO}")) for depth in range(4))  # as `tiles.find_dataset`
    return _tiles(place, split, size) if whole else _folder(place, size)


def _cropped(image: np.ndarray, size: int) -> np.ndarray:
    return center_crop(image, size) if size else image


def _stacked(images: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Images one by one -> batches of neighbours that have one size."""
    held: list[np.ndarray] = []
    for image in images:
        if held and (len(held) == _BATCH or image.shape != held[0].shape):
            yield np.stack(held)
            held = []
        held.append(image)
    if held:
        yield np.stack(held)


def _folder(place: epath.Path, size: int) -> ImageSet:
    found = _samples(map(str, place.iterdir())) or _at_any_depth(place)

    def batches(rows: Sequence[int]) -> Iterator[np.ndarray]:
        return _stacked(_cropped(MODALITIES["rgb"].read(found[row]), size) for row in rows)

    def marks(rows: range) -> list[str]:
        return [f"cropped to {size}", *(_mark(found[row], place) for row in rows)]

    return ImageSet(str(place), len(found), batches, marks)


def _samples(paths: Iterable[str]) -> list[str]:
    """The rgb images of samples among the files of a folder, in the order of their numbers."""
    numbered = {path: int(found[1]) for path in paths if (found := _SAMPLE.fullmatch(os.path.basename(path)))}
    return sorted(numbered, key=lambda path: (numbered[path], path))


def _at_any_depth(place: epath.Path) -> list[str]:
    """All images below a folder, folder by folder; of a folder of samples only their rgb images."""
    folders: dict[str, list[str]] = {}
    for path in groups.find(str(place)).values():
        folders.setdefault(os.path.dirname(path), []).append(path)
    return [path for _, paths in sorted(folders.items()) for path in _samples(paths) or paths]


def _mark(path: epath.PathLike, root: epath.PathLike) -> str:
    found = os.stat(path)
    return f"{os.path.relpath(path, root)} {found.st_size} {found.st_mtime_ns}"


def _tiles(place: epath.Path, split: str, size: int) -> ImageSet:
    source, column = tiles.read_tiles(place, split), list(MODALITIES).index("rgb")

    def images(rows: Sequence[int]) -> Iterator[np.ndarray]:
        for row in rows:
            tile = tiles.decode_tile(source[row])
            if not tile["present"][column]:
                raise UsageError(f"tile {tile['key']} of split {split!r} of {place} has no rgb; all need one")
            yield _cropped(tile["rgb"], size)

    def marks(_: range) -> list[str]:
        shards = (f"{_mark(part.filename, place)} {part.skip} {part.take}" for part in source.files)
        return [f"cropped to {size}", *shards]

    return ImageSet(
        f"{place}, split {split}",
        len(source),
        lambda rows: _stacked(images(rows)),
        marks,
        class_names=tiles.class_names(place),
    )


def _npz(place: epath.Path, name: str) -> ImageSet:
    entries = Npz(place)
    found = {kind: _gaussian(entries, keys, place) for kind, keys in STATISTICS.items() if keys[0] in entries}
    digest = entries[_NETWORK].tobytes().hex() if _NETWORK in entries else ""
    if ARRAY not in entries:
        if not found:
            raise UsageError(f"{name} {place} has {', '.join(entries) or 'nothing'}; allowed: {ARRAY}, or mu and sigma")
        return ImageSet(str(place), 0, lambda _: iter(()), lambda _: [], found, digest)
    shape = entries.shape(ARRAY)
    first = next(entries.rows(ARRAY, 1)) if shape and shape[0] else np.zeros(0)
    if first.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise UsageError(f"{name} {place}: {ARRAY} is {first.dtype} {shape}; allowed: uint8 (n, height, width, 3)")

    def batches(rows: Sequence[int]) -> Iterator[np.ndarray]:
        return _among(entries.rows(ARRAY, _BATCH), rows)

    return ImageSet(str(place), shape[0], batches, lambda _: [_mark(place, place.parent)], found, digest)


def _among(batches: Iterator[np.ndarray], rows: Sequence[int]) -> Iterator[np.ndarray]:
    """The rows with these numbers of batches of all; an .npz that is compressed can be read from its start alone."""
    wanted, end, done = np.asarray(rows, np.int64), 0, 0
    while done < len(wanted):
        batch = next(batches)
        start, end = end, end + len(batch)
        first, done = done, int(np.searchsorted(wanted, end))
        if first < done:
            yield batch[wanted[first:done] - start]


def pick(images: ImageSet, numbers: Sequence[int]) -> list[np.ndarray]:
    """Reads the images of these numbers, in any order and as often as they are there, each uint8 [H, W, 3]."""
    ascending = sorted(set(numbers))
    found = dict(zip(ascending, itertools.chain.from_iterable(images.batches(ascending)), strict=True))
    return [found[number] for number in numbers]


def _gaussian(entries: Npz, keys: tuple[str, str], place: epath.Path) -> Gaussian:
    if keys[1] not in entries:
        raise UsageError(f"{place} has {keys[0]}, but no {keys[1]}; allowed: both or none")
    mean, covariance = (np.asarray(entries[key], np.float64) for key in keys)
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise UsageError(
            f"{place}: {keys[0]} and {keys[1]} are {mean.shape} and {covariance.shape}; allowed: (D,) and (D, D)"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise UsageError(f"{place}: {keys[0]} or {keys[1]} has values that are not finite")
    return Gaussian(mean, covariance)


def write_statistics(path: epath.PathLike, gaussians: dict[str, Gaussian], digest: str) -> None:
    """Writes mean and covariance of all kinds as ADM names them, so that a reference is looked at once.

    Beside them the network's digest, as of two classifiers both have equally many features.
    """
    arrays = {_NETWORK: np.frombuffer(bytes.fromhex(digest), np.uint8)}
    for kind, found in gaussians.items():
        arrays |= dict(zip(STATISTICS[kind], (found.mean, found.covariance), strict=True))
    with files.replacing(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # mypy takes all for the option allow_pickle
    say(f"written: {path}")
