"""Reads samples from a folder as `sample` and `Outputs.save` write it: depth, and what else there is."""

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


class Sample(NamedTuple):
    """What a folder has of one sample.

    Attributes:
      depth: relative inverse depth float32 [H, W] in [0, 1].
      valid: bool [H, W], where depth has a number.
      normal: unit normals float32 [H, W, 3], or None.
      rgb: uint8 [H, W, 3], or None.
      mask: colours of regions uint8 [H, W, 3], or None.
    """

    depth: np.ndarray
    valid: np.ndarray
    normal: np.ndarray | None
    rgb: np.ndarray | None
    mask: np.ndarray | None


def numbers(folder: epath.Path) -> list[str]:
    """Numbers of the samples, as they are in the names of their depth. Raises UsageError where there are none."""
    if not folder.is_dir():
        raise UsageError(f"--samples is {folder}, which is not a folder; allowed: one with depth_000.png and the like")
    found = {match[1] for path in folder.iterdir() if (match := re.fullmatch(r"depth_(\d+)", path.stem))}
    with_file = sorted(number for number in found if _file(folder, "depth", number))
    if not with_file:
        raise UsageError(f"--samples {folder} has no depth; allowed: a folder with depth_000.png and the like")
    return with_file


def read(folder: epath.Path, number: str) -> Sample:
    """One sample. Raises UsageError for a file that cannot be read or does not fit the depth."""
    depth, valid = _read(folder, "depth", number, None)  # type: ignore[misc]
    rest = [_read(folder, m, number, depth.shape) for m in ("normal", "rgb", "mask")]
    return Sample(depth, valid, *(None if part is None else part[0] for part in rest))


def _file(folder: epath.Path, modality: str, number: str) -> epath.Path | None:
    """The file of a modality of a sample, if there is one."""
    there = (folder / f"{modality}_{number}{suffix}" for suffix in _SUFFIXES)
    return next((path for path in there if path.exists()), None)


def _read(
    folder: epath.Path, modality: str, number: str, shape: tuple[int, ...] | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Values [H, W(, 3)] of a modality and where they are numbers, bool [H, W]; None if there is no file of it."""
    path = _file(folder, modality, number)
    if path is None:
        return None
    source, kind = Source(f"{modality} ({path})"), MODALITIES[modality]
    if path.suffix == ".npy":
        array = files.read_array(path, source)
    else:
        array = kind.from_file(files.read_image(path, source), Facts(), source)
    value = kind.from_given(array, None, Facts(), source)
    if len(value) != 1:
        raise source.error(f"has {len(value)} images", "one")
    if shape is not None and value.shape[1:3] != shape:
        height, width = value.shape[1:3]
        raise source.error(f"has {width}x{height} pixels", f"{shape[1]}x{shape[0]}, as its depth")
    finite = np.isfinite(array.reshape(*value.shape[1:3], -1))
    return value[0], np.asarray(finite.all(-1))
