"""Reads samples from a folder as `sample` and `Outputs.save` write it: depth, and what else there is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from etils import epath

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.show import saved
from mmgen_jax.system.errors import UsageError


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
    with_file = saved.numbers(folder, "depth")
    if not with_file:
        raise UsageError(f"--samples {folder} has no depth; allowed: a folder with depth_000.png and the like")
    return with_file


def read(folder: epath.Path, number: str) -> Sample:
    """One sample. Raises UsageError for a file that cannot be read or does not fit the depth."""
    depth, valid = saved.value(folder, "depth", number, Facts())  # type: ignore[misc]
    rest = [saved.value(folder, m, number, Facts(), depth.shape, "its depth") for m in ("normal", "rgb", "mask")]
    return Sample(depth, valid, *(None if part is None else part[0] for part in rest))
