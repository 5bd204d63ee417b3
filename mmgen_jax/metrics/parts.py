"""What a network made of images, in files of one folder, so that several machines look at a part of them each."""

from __future__ import annotations

import functools
import hashlib
import operator
import re
from collections.abc import Iterable

import numpy as np
from etils import epath

from mmgen_jax.metrics.gaussians import Moments
from mmgen_jax.metrics.image_sets import ImageSet
from mmgen_jax.metrics.judges import Judge
from mmgen_jax.metrics.looked import Looked, look
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import Share
from mmgen_jax.tensor_files.npz import Npz

_PART = re.compile(r"seen-(\d+)-(\d+)-of-(\d+)\.npz")  # the first image, the one behind the last, and how many


def look_together(images: ImageSet, judge: Judge, name: str, folder: epath.PathLike, share: Share) -> Looked:
    """What a network makes of a share of images: parts in `folder` are read, what is missing is looked at and written.

    Args:
      images: the whole set, the same for every process.
      name: the option that gave the set.
      folder: on this machine; made where it is missing. Processes write different files, each whole or not at all.
      share: of this process; that of all takes together what every process left.

    Raises:
      UsageError: the share has no image; a part is damaged, or of other images or another network.
      NotFinite: as `look`.
    """
    place, wanted = epath.Path(folder), share.block(images.count)
    if not wanted:
        raise UsageError(
            f"--workers is {share.workers}; allowed: at most one for each of {images.count} images of {name}"
        )
    written = _written(place, images.count) if place.exists() else []
    found = []
    for rows in _tiled(wanted, written):
        path = place / f"seen-{rows.start:08d}-{rows.stop:08d}-of-{images.count:08d}.npz"
        made_of = _fingerprint(images, judge, rows)
        if rows in written:
            found.append(_read(path, made_of))
        else:
            found.append(look(images, judge, name, rows))
            _write(path, made_of, found[-1])
    return functools.reduce(operator.add, found)


def _written(place: epath.Path, count: int) -> list[range]:
    """The images of the parts in a folder, those of sets of another number left out, in order."""
    numbers = [tuple(map(int, found.groups())) for path in place.iterdir() if (found := _PART.fullmatch(path.name))]
    return [range(first, end) for first, end, total in sorted(numbers) if first < end <= total == count]


def _tiled(wanted: range, written: Iterable[range]) -> list[range]:
    """Ranges that make up `wanted`: those that are written, where they do not overlap, and what is between them."""
    tiles, at = [], wanted.start
    for rows in written:
        if at <= rows.start and rows.stop <= wanted.stop:
            tiles += [range(at, rows.start), rows]
            at = rows.stop
    return [rows for rows in [*tiles, range(at, wanted.stop)] if rows]


def _fingerprint(images: ImageSet, judge: Judge, rows: range) -> np.ndarray:
    """Tells parts of other images, of images that were changed since, and of another network; uint8 [32]."""
    words = "\n".join([judge.digest, *images.marks(rows)])
    return np.frombuffer(hashlib.sha256(words.encode(errors="surrogateescape")).digest(), np.uint8)


def _write(path: epath.Path, made_of: np.ndarray, looked: Looked) -> None:
    arrays = {"features": looked.features, "probabilities": looked.probabilities, "sizes": sorted(looked.sizes)}
    for kind, moments in looked.moments.items():
        arrays |= {f"{kind}_count": moments.count, f"{kind}_mean": moments.mean, f"{kind}_scatter": moments.scatter}
    with files.replacing(path) as part, part.open("wb") as file:
        np.savez(file, made_of=made_of, **arrays)  # type: ignore[arg-type]  # mypy takes all for allow_pickle


def _read(path: epath.Path, made_of: np.ndarray) -> Looked:
    entries = Npz(path)
    try:
        if not np.array_equal(entries["made_of"], made_of):
            raise UsageError(f"{path} is of other images or another network; allowed: parts of these, so delete it")
        kinds = [name.removesuffix("_scatter") for name in entries if name.endswith("_scatter")]
        moments = {
            kind: Moments(int(entries[f"{kind}_count"]), entries[f"{kind}_mean"], entries[f"{kind}_scatter"])
            for kind in kinds
        }
        sizes = frozenset((int(height), int(width)) for height, width in entries["sizes"])
        return Looked(entries["features"], entries["probabilities"], moments, sizes)
    except KeyError as error:
        raise UsageError(f"{path} has no {error}; allowed: what this command wrote, so delete it") from error
