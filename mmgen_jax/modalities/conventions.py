"""What the numbers in label files of others mean, and how they become those that this package stores."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import InitVar, dataclass

import numpy as np
from etils import epath

from mmgen_jax.modalities import pixels
from mmgen_jax.modalities.depth import DEPTH
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.geometry import depth_to_relative
from mmgen_jax.system.errors import UsageError, choice

NEAR, FAR = "near", "far"  # what the largest numbers of files of depth are
_MANY, _GAP = 0.002, 0.05  # share of pixels; share of the largest number


@dataclass(frozen=True)
class DepthFiles:
    """What the numbers in files of depth mean.

    Attributes:
      largest: "near" or "far", what the largest numbers are.
      invalid: the number of pixels without a value; None if there is none. NaN and infinity are never values.
      range: (near, far), the distances that become 1 and 0, where the numbers are distances; for `largest` "near", the
        numbers that do. None takes the range of the file's type, and 0 to 1 for floats.
      metres: how many metres a number of 1 is; None if that is unknown. `range` is in metres if it is known.

    Raises:
      UsageError: values that do not go together.
    """

    largest: str = NEAR
    invalid: float | None = None
    range: tuple[float, float] | None = None
    metres: float | None = None

    def __post_init__(self):
        choice("depth_is", self.largest, (NEAR, FAR))
        if self.invalid is not None and not np.isfinite(self.invalid):
            raise UsageError(f"depth_invalid is {self.invalid}; allowed: a finite number, NaN is invalid always")
        if self.range is not None:
            near, far = self.range
            fits = 0 < near < far if self.largest == FAR else near > far
            if not (np.isfinite(self.range).all() and fits):
                allowed = "0 < NEAR < FAR" if self.largest == FAR else "NEAR > FAR, as the largest numbers are near"
                raise UsageError(f"depth_range is {near:g},{far:g}; allowed with depth_is={self.largest}: {allowed}")
        if self.metres is not None:
            if not 0 < self.metres < np.inf:
                raise UsageError(f"depth_metres is {self.metres:g}; allowed: above 0")
            if self.largest != FAR or self.range is None:
                raise UsageError("depth_metres needs depth_is=far and depth_range=NEAR,FAR in metres")

    @property
    def metadata(self) -> dict[str, object]:
        """What a data set whose depth was read so says of itself."""
        said: dict[str, object] = {"depth_" + k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        said["depth_is"] = said.pop("depth_largest")
        if self.largest == FAR and self.range:
            said["depth"] = "relative inverse depth (1/z - 1/far) / (1/near - 1/far), in (near, far) of depth_range"
        else:
            said["depth"] = "relative within each image, larger = nearer"
        if "depth_range" in said and self.metres is None:  # numbers of a unit that nobody knows are not metres
            said["depth_numbers"] = said.pop("depth_range")
        return said

    def read(self, path: epath.PathLike) -> tuple[np.ndarray, np.ndarray | None]:
        """What `stored` makes of an image file; raises UsageError that names it."""
        return self.stored(*DEPTH.numbers(path), Source(f"depth {path}"))

    def stored(self, numbers: np.ndarray, top: int, source: Source) -> tuple[np.ndarray, np.ndarray | None]:
        """Numbers of a file [H, W] -> pixels uint16 [H, W, 1], and bool [H, W] that says which of them have a value.

        `top` is the largest number of the file's type, 1 for floats. The bools are None where every number is a value;
        otherwise pixels without a value are 0, and others at least 1. Raises UsageError for floats outside [0, 1]
        without a range.
        """
        whole = numbers.dtype.kind in "ui"
        x = numbers.astype(np.float64)
        valid = np.isfinite(x)
        if self.invalid is not None:
            valid &= x != self.invalid
        x = np.where(valid, x, x[valid].min() if valid.any() else 0)
        if self.range is None:
            relative = x / top
            if relative.min() < 0 or relative.max() > 1:
                allowed = "0 to 1, or any with --depth_range=NEAR,FAR"
                raise source.error(f"has values from {x.min():.4g} to {x.max():.4g}", allowed)
            relative = 1 - relative if self.largest == FAR else relative
        elif self.largest == FAR:
            relative = depth_to_relative(np.clip(x * (self.metres or 1), *self.range), self.range)
        else:
            near, far = self.range
            relative = np.clip((x - far) / (near - far), 0, 1)
        image = pixels.to_pixels(2 * relative - 1, np.uint16)[..., None]
        if whole and self.invalid is None:
            return image, None
        return np.where(valid[..., None], np.maximum(image, 1), 0).astype(np.uint16), valid

    def doubts(self, numbers: np.ndarray) -> bool:
        """Whether zeros in a file may mean that nothing was measured: many, and far from all other numbers."""
        if self.invalid is not None or not (numbers == 0).mean() > _MANY:
            return False
        others = numbers[numbers > 0]
        return bool(others.size) and bool(others.min() > _GAP * others.max())


@dataclass(frozen=True)
class Axes:
    """Which axis of the files' normals is this package's x (right), y (up) and z (towards the camera): "x,-y,-z".

    Raises UsageError unless each of x, y and z is there once, with or without a minus.
    """

    text: str = "x,y,z"
    name: InitVar[str] = "normal_axes"  # what it was given as

    def __post_init__(self, name: str):
        if not re.fullmatch("(-?[xyz],){2}-?[xyz]", self.text) or {"x", "y", "z"} - set(self.text):
            raise UsageError(f"{name} is {self.text!r}; allowed: x, y and z once each, with a minus or not: x,-y,-z")

    @property
    def _parts(self) -> list[tuple[int, bool]]:
        """For x, y and z: which component of the files it is, and whether that is turned around."""
        return [("xyz".index(axis[-1]), axis[0] == "-") for axis in self.text.split(",")]

    def stored(self, image: np.ndarray) -> np.ndarray:
        """Pixels [H, W, 3] in the files' axes -> in those of this package; a component is turned around exactly."""
        if self == Axes():
            return image
        top = np.iinfo(image.dtype).max
        return np.stack([top - image[..., i] if turned else image[..., i] for i, turned in self._parts], -1)

    def turned(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [..., 3] in the files' axes -> in those of this package."""
        return np.stack([-vectors[..., i] if turned else vectors[..., i] for i, turned in self._parts], -1)

    def then(self, found: Axes) -> Axes:
        """The axes of files whose normals, read with these, turn out to have the axes `found`."""
        own = {axis: part for axis, part in zip("xyz", self.text.split(","), strict=True)}
        parts = ["-" * axis.startswith("-") + own[axis[-1]] for axis in found.text.split(",")]
        return Axes(",".join(part.removeprefix("--") for part in parts))
