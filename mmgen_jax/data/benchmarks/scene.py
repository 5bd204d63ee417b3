"""What a benchmark of depth is: images with depth in metres, the pixels that count, and the split of the papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mmgen_jax.modalities import files as image_files
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.pixels import fitted
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError


@dataclass(frozen=True, eq=False)
class DepthScene:
    """An image and its depth.

    Attributes:
      rgb: the image, of the same size as its depth.
      depth: z in metres; any number where it is not valid.
      valid: pixels that were measured and that the benchmark looks at; the range is not in it.
    """

    rgb: UInt8[np.ndarray, "H W 3"]
    depth: Float[np.ndarray, "H W"]
    valid: Bool[np.ndarray, "H W"]


@dataclass(frozen=True)
class Scenes:
    """The scenes of a benchmark that was found on disk: their names, and what reads the one of a number."""

    names: tuple[str, ...]
    load: Callable[[int], DepthScene]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as the papers use it.

    Attributes:
      near, far: metres between which depth counts, and to which predictions are clipped.
      split: the split and the crop, in words.
      open: finds the scenes below a folder; the second argument is a file that lists them, "" for none. Raises
        UsageError for a folder of another layout.
      listed: whether it needs that file.
    """

    near: float
    far: float
    split: str
    open: Callable[[Path, str], Scenes]
    listed: bool = False


def box(shape: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """True in the rows and columns from the first numbers up to, without, the second."""
    inside = np.zeros(shape, bool)
    inside[rows[0] : rows[1], columns[0] : columns[1]] = True
    return inside


def whole_numbers(path: Path, per_metre: float) -> tuple[np.ndarray, np.ndarray]:
    """A PNG of 16 bits -> depth float32 [H, W] in metres, and bool [H, W]: 0 is a pixel that was not measured.

    Raises UsageError for a file of floats or of 8 bits, which would have lost most of its numbers.
    """
    numbers, top = MODALITIES["depth"].numbers(path)  # type: ignore[attr-defined]  # a Scalar has it
    if numbers.dtype.kind not in "ui" or top <= 255:
        raise UsageError(f"depth {path} has numbers up to {top}; allowed: integers of 16 bits")
    return (numbers / per_metre).astype(np.float32), numbers > 0


def colours(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """An image file, uint8 [H, W, 3], resized to the height and width of its depth if they differ."""
    return fitted(MODALITIES["rgb"].read(path), shape)


def array(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """An NPY file [H, W] or [H, W, 1] -> [H, W]. Raises UsageError for another shape."""
    found = image_files.read_array(path, Source(f"file {path}"))
    if found.ndim == 3 and found.shape[-1] == 1:
        found = found[..., 0]
    if found.ndim != 2 or (shape is not None and found.shape != shape):
        raise UsageError(f"file {path} has shape {found.shape}; allowed: {shape or '(height, width)'}")
    return found


def listed(path: str, least: int) -> list[list[str]]:
    """The words of each line of a list of files that is not blank. Raises UsageError for a line of fewer."""
    rows = [line.split() for line in reading.text(files.here(path, "--list")).splitlines() if line.strip()]
    for row in rows:
        if len(row) < least:
            raise UsageError(f"--list {path} has the line {' '.join(row)!r}; allowed: lines of {least} names or more")
    if not rows:
        raise UsageError(f"--list {path} is empty; allowed: a line for each image")
    return rows


def folder(root: str) -> Path:
    """The folder that --root names. Raises UsageError for anything else."""
    place = files.here(root, "--root")
    if files.kind(place) != "a folder":
        raise UsageError(f"--root {place} is {files.kind(place) or 'not there'}; allowed: a folder")
    return Path(place)


def existing(root: Path, *names: str) -> Path:
    """The first of these files below a folder that exists. Raises UsageError if there is none."""
    for name in names:
        if (root / name).is_file():
            return root / name
    raise UsageError(f"--root {root} has no {' and no '.join(names)}")
