"""Guides to hand: what is known in some points, also without its scale, and the mean over a region.

`training_free` says how they lead.

All of them are pytrees: other numbers of the same shapes compile nothing. Pixels are those of the images that are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from mmgen_jax.data.latents.plan import digest
from mmgen_jax.modalities import kept
from mmgen_jax.modalities.directions import Directions
from mmgen_jax.modalities.files import Source, given_array
from mmgen_jax.modalities.modality import Scalar
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling.training_free import Images
from mmgen_jax.system import reading
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.system.rules import POSITIVE, require

DEVIATION = 0.02  # of what is known, on scales of length 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Points:
    """Values of a modality that are known in some pixels.

    Attributes:
      column, row: int [1 or n, P], the pixels.
      value: float [1 or n, P, C], what is known there.
      deviation: float [1], standard deviation of that.
      modality: its name.
    """

    what: ClassVar[str] = "points"
    column: AnyArray
    row: AnyArray
    value: AnyArray
    deviation: AnyArray
    modality: str = field(metadata={"static": True})

    def __call__(self, images: Images) -> jax.Array:
        """Loss [B] of images. Raises UsageError for a point beside them, where the points are known."""
        return jnp.square((self.found(images) - self.value) / self.deviation).sum((1, 2)) / 2

    def found(self, images: Images) -> jax.Array:
        """What images say at the points, [B, P, C]. Raises UsageError as a call does."""
        image = images[self.modality]
        for name, place, side in (("x", self.column, image.shape[2]), ("y", self.row, image.shape[1])):
            if not isinstance(place, jax.core.Tracer) and np.max(place) >= side:
                raise UsageError(f"points of {self.modality} have {name} = {np.max(place)}; allowed: 0 to {side - 1}")
        found = image[jnp.arange(len(image))[:, None], self.row, self.column]
        return found.reshape(*found.shape[:2], -1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Unscaled(Points):
    """Values of a modality that are known in some pixels up to a scale of at least 0 and a shift, those of each sample.

    An image says z = a y + b of the values y, up to normal errors. The loss is that of the scale and the shift that fit
    best: a = max(y.z / y.y, 0) with y and z less their means. If a > 0 it is that of the P - 2 combinations of z that
    are 0 for any scale and shift, which is all that the values tell. `value` has a mean of 0 and a deviation of 1.
    """

    what: ClassVar[str] = "unscaled points"

    def __call__(self, images: Images) -> jax.Array:
        found = self.found(images)
        centred = found - found.mean(1, keepdims=True)
        scale = jnp.maximum((self.value * centred).mean(1, keepdims=True), 0)
        return jnp.square((centred - scale * self.value) / self.deviation).sum((1, 2)) / 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Region:
    """The mean of a modality over a region.

    Attributes:
      inside: float [1 or n, H, W], 1 in the region and 0 elsewhere.
      value: float [1, C], the mean that is wanted.
      deviation: float [1], standard deviation of that.
      modality: its name.
    """

    what: ClassVar[str] = "region"
    inside: AnyArray
    value: AnyArray
    deviation: AnyArray
    modality: str = field(metadata={"static": True})

    def __call__(self, images: Images) -> jax.Array:
        """Loss [B] of images. Raises UsageError for a region of another size."""
        image = images[self.modality]
        if self.inside.shape[1:] != image.shape[1:3]:
            height, width = image.shape[1:3]
            raise UsageError(f"region has shape {list(self.inside.shape)}; allowed: [{height}, {width}], or one each")
        image, inside = image.reshape(*image.shape[:3], -1), self.inside[..., None]
        mean = (image * inside).sum((1, 2)) / inside.sum((1, 2))
        return jnp.square((mean - self.value) / self.deviation).sum(1) / 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Together:
    """Several guides at once: what each of them knows is independent of the others."""

    guides: tuple[Points | Region, ...]

    def __call__(self, images: Images) -> jax.Array:
        return sum((guide(images) for guide in self.guides[1:]), self.guides[0](images))


def points(modality: str, rows: object, deviation: float = DEVIATION) -> Points:
    """A guide to known values in some pixels, such as depth that a sensor has measured.

    Args:
      modality: whose values they are.
      rows: float [P, 2 + C], x (to the right) and y (down) of pixels from 0, and the value there: rgb and colours of
        masks 0 to 1, depth 0 to 1 (1 = nearest), normals unit vectors. For all samples, or [n, P, 2 + C] for each.
      deviation: standard deviation of the values; the smaller it is, the more exactly they are followed.

    Raises:
      UsageError: an argument is not allowed.
    """
    source, count, low = _about("points", modality, deviation)
    column, row, value = _rows(source, rows, count)
    _check_values(source, value, low)
    return Points(column, row, value.astype(np.float32), np.full(1, deviation, np.float32), modality)


def unscaled(modality: str, rows: object, deviation: float = DEVIATION) -> Unscaled:
    """A guide to values in some pixels whose scale and shift are not known, such as depth in metres or of stereo.

    Relative inverse depth is 1 / distance up to a scale and a shift, so of distances in any unit give the inverse.

    Args:
      modality: whose values they are, depth.
      rows: float [P, 3], x (to the right) and y (down) of pixels from 0, and the value there, larger = nearer. For all
        samples, or [n, P, 3] for each. At least three points, not all of one value.
      deviation: standard deviation of the values once they are scaled to what is made, which is 0 to 1.

    Raises:
      UsageError: an argument is not allowed.
    """
    scalars = [m for m, kind in MODALITIES.items() if isinstance(kind, Scalar)]
    source, count, _ = _about("unscaled points", choice("modality of unscaled points", modality, scalars), deviation)
    column, row, value = _rows(source, rows, count)
    if value.shape[1] < 3:
        raise source.error(f"are {value.shape[1]}", "at least 3, as some scale and shift fit two of them")
    if not np.isfinite(value).all():
        raise source.error(f"have the value {value[~np.isfinite(value)][0]:g}", "finite numbers")
    value = value / np.maximum(np.abs(value).max(1, keepdims=True), np.finfo(np.float64).tiny)
    centred = value - value.mean(1, keepdims=True)
    spread = np.sqrt(np.square(centred).mean(1, keepdims=True))
    if (spread <= 1e-12).any():
        raise source.error("have one value everywhere", "values that differ")
    known = (centred / spread).astype(np.float32)
    return Unscaled(column, row, known, np.full(1, deviation, np.float32), modality)


def _rows(source: Source, rows: object, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns and rows int [1 or n, P] of pixels, and values float64 [1 or n, P, count]. Raises UsageError."""
    array, allowed = given_array(rows, source), f"[P, {2 + count}] or [n, P, {2 + count}], rows of x, y and the value"
    if array.dtype.kind not in "iuf":
        raise source.error(f"have type {array.dtype}", f"numbers, {allowed}")
    if array.ndim not in (2, 3) or array.shape[-1] != 2 + count or not array.size:
        raise source.error(f"have shape {list(array.shape)}", allowed)
    array = array.astype(np.float64).reshape(-1, *array.shape[-2:])
    place, value = array[..., :2], array[..., 2:]
    if not (np.isfinite(place).all() and (place == np.rint(place)).all() and (place >= 0).all()):
        raise source.error("have pixels that are no integers of at least 0", allowed)
    return place[..., 0].astype(np.int32), place[..., 1].astype(np.int32), value


def region(modality: str, inside: object, value: Sequence[float] | float, deviation: float = DEVIATION) -> Region:
    """A guide to a mean over a region, such as its colour.

    Args:
      modality: whose mean it is.
      inside: True in the region and False elsewhere, [H, W] for all samples or [n, H, W] for each, as large as the
        images that are made.
      value: the mean: (r, g, b) from 0 to 1 of rgb and colours of masks, depth from 0 to 1, a vector of normals.
      deviation: standard deviation of the mean; the smaller it is, the more exactly it is followed.

    Raises:
      UsageError: an argument is not allowed.
    """
    source, count, low = _about("region", modality, deviation)
    wanted = given_array(value, Source("value of the region"))
    if wanted.dtype.kind not in "iuf" or wanted.size != count or wanted.ndim > 1:
        what = "a number" if count == 1 else f"{count} numbers"
        raise source.error(f"has a value of type {wanted.dtype} and shape {list(wanted.shape)}", what)
    wanted = wanted.astype(np.float32).reshape(1, count)
    _check_values(source, wanted, low)
    array = kept.two_values(given_array(inside, source), source)[..., 0]
    if not array.any((1, 2)).all():
        raise source.error("is empty", "True in some pixels")
    return Region(array.astype(np.float32), wanted, np.full(1, deviation, np.float32), modality)


def _about(what: str, modality: str, deviation: float) -> tuple[Source, int, float]:
    """How errors name a guide, and the channels and the lowest value of its modality. Raises UsageError."""
    kind = MODALITIES[choice(f"modality of {what}", modality, MODALITIES)]
    require(f"deviation of {what}", deviation, POSITIVE)
    return Source(f"{what} of {modality}"), kind.channels, -1.0 if isinstance(kind, Directions) else 0.0


def _check_values(source: Source, value: np.ndarray, low: float) -> None:
    """Raises UsageError unless all values are from `low` to 1."""
    wrong = value[~((value >= low) & (value <= 1))]
    if wrong.size:
        raise source.error(f"has the value {wrong.flat[0]:g}", f"{low:g} to 1")


def read_rows(modality: str, path: epath.PathLike) -> list[list[float]]:
    """Points in a text file: a row of x, y and the value for each. Rows may be empty, or comments after a #.

    Raises UsageError for a file that cannot be read.
    """
    rows, wide = [], 2 + MODALITIES[modality].channels
    for i, line in enumerate(reading.text(path).splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise UsageError(f"points of {modality} ({path}) have {words} in line {i}; allowed: numbers") from error
        if len(words) != wide:
            raise UsageError(f"points of {modality} ({path}) have {len(words)} numbers in line {i}; allowed: {wide}")
    if not rows:
        raise UsageError(f"points of {modality} ({path}) are none; allowed: rows of x, y and the value")
    return rows


def source(guide: Together | None) -> dict[str, object]:
    """Name -> value, as JSON has it, that tells what a guide knows."""
    return {f"the {g.what} of {g.modality}": digest(g) for g in (guide.guides if guide else ())}
