"""Reads samples from a folder as `Outputs.save` and the sample command write it."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from etils import epath

from mmgen_jax.modalities import files
from mmgen_jax.modalities.decoding import SUFFIXES
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

_SUFFIXES = (".npy", *SUFFIXES)  # in this order, as NPY files are exact


class Saved(NamedTuple):
    """All samples of a folder.

    Attributes:
      rows: their numbers, as text.
      values, uncertainty, draws: modality -> arrays [n, ...] as `Outputs` has them; the last two of what was drawn
        several times.
    """

    rows: tuple[str, ...]
    values: dict[str, np.ndarray]
    uncertainty: dict[str, np.ndarray]
    draws: dict[str, np.ndarray]


def samples(folder: epath.Path, facts: Facts) -> Saved:
    """All samples of a folder.

    Raises UsageError for a folder without samples, and for files that are missing, cannot be read or differ in size.
    """
    if not folder.is_dir():
        raise UsageError(f"folder is {folder}, which is not one; allowed: a folder with rgb_000.png and the like")
    found = {m: there for m in MODALITIES if (there := numbers(folder, m))}
    if not found:
        raise UsageError(f"folder {folder} has no samples; allowed: one with rgb_000.png and the like")
    rows = max(found.values(), key=len)
    uncertain = [m for m in found if (folder / f"{m}_uncertainty_{rows[0]}.npy").exists()]
    more = ({m: _arrays(folder, f"{m}_{kind}", rows) for m in uncertain} for kind in ("uncertainty", "draws"))
    values = {m: _values(folder, m, rows, facts) for m in found}
    return Saved(tuple(str(int(number)) for number in rows), values, *more)


def numbers(folder: epath.Path, modality: str) -> list[str]:
    """Numbers of the samples that have a file of a modality, as they are in its name, in order."""
    there = (path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    found = {match[1] for path in there if (match := re.fullmatch(rf"{modality}_(\d+)", path.stem))}
    return sorted(found, key=lambda number: (int(number), number))


def value(
    folder: epath.Path, modality: str, number: str, facts: Facts, shape: tuple[int, ...] | None = None, like: str = ""
) -> tuple[np.ndarray, np.ndarray] | None:
    """Values [H, W(, 3)] of a modality and where they are numbers, bool [H, W]; None if there is no file of it.

    Raises UsageError for a file that cannot be read, and for another size than `shape`, which is that of `like`.
    """
    there = (folder / f"{modality}_{number}{suffix}" for suffix in _SUFFIXES)
    path = next((path for path in there if path.exists()), None)
    if path is None:
        return None
    source, kind = Source(f"{modality} ({path})"), MODALITIES[modality]
    if path.suffix == ".npy":
        array = files.read_array(path, source)
    else:
        array = kind.from_file(files.read_image(path, source), facts, source)
    found = kind.from_given(array, None, facts, source)
    if len(found) != 1:
        raise source.error(f"has {len(found)} images", "one")
    if shape is not None and found.shape[1:3] != shape:
        height, width = found.shape[1:3]
        raise source.error(f"has {width}x{height} pixels", f"{shape[1]}x{shape[0]}, as {like}")
    finite = np.isfinite(array.reshape(*found.shape[1:3], -1))
    return found[0], np.asarray(finite.all(-1))


def _values(folder: epath.Path, modality: str, rows: list[str], facts: Facts) -> np.ndarray:
    """Values [n, H, W(, 3)] of all samples."""
    made: list[np.ndarray] = []
    for number in rows:
        found = value(folder, modality, number, facts, made[0].shape[:2] if made else None, "the first sample")
        if found is None:
            raise UsageError(
                f"folder {folder} has no {modality} of sample {number}; allowed: all samples have the same"
            )
        made.append(found[0])
    return np.stack(made)


def _arrays(folder: epath.Path, name: str, rows: list[str]) -> np.ndarray:
    """Arrays of NPY files of all samples, [n, ...]."""
    paths = [folder / f"{name}_{number}.npy" for number in rows]
    made = [files.read_array(path, Source(f"{name} ({path})")) for path in paths]
    for path, array in zip(paths, made, strict=True):
        if array.shape != made[0].shape:
            raise Source(f"{name} ({path})").error(
                f"has shape {list(array.shape)}", f"{list(made[0].shape)}, as the first"
            )
    return np.stack(made)
