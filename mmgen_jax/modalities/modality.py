"""What each modality must be able to do, and two of the four kinds; `directions` and `regions` have the others.

Four forms of one image occur, and only modalities turn one into another:

* **pixels**: as stored and as batches carry them, unsigned integers ``[..., H, W, C]``;
* **array**: what autoencoders see, float32 in [-1, 1] with the same shape;
* **value**: what a user gets and gives, see each kind;
* **picture**: uint8 ``[..., H, W, 3]`` to look at.

A new modality is one of the kinds, or a subclass of one that scores or mirrors in its own way, in a file of its own,
and a name in `registry`.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from etils import epath
from PIL import Image

from mmgen_jax.modalities import files, holes, measure, pixels
from mmgen_jax.modalities.decoding import Decoded
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.measure import Averages
from mmgen_jax.modalities.upsampling import Upsampler

Areas = Mapping[str, np.ndarray]  # prefix of a score's name -> bool [N, H, W], the pixels that it looks at


class Combined(NamedTuple):
    """What several draws of the same images say together.

    Attributes:
      value: values [n, H, W(, 3)] in the format of the modality.
      uncertainty: float32 [n, H, W], 0 where all draws agree; each kind says its unit.
    """

    value: np.ndarray
    uncertainty: np.ndarray


@dataclass(frozen=True)
class Modality(abc.ABC):
    """A modality: its place in dicts and losses, its storage, and all that is done with its images.

    Attributes:
      name: key of the modality in every dict.
      loss_weight: weight of its velocity loss in the published recipe.
      channels: channels of its pixels.
      dtype: integer type of its stored pixels.
      headlines: scores that stand for all of them in short tables, as `score` names them; those that there are count.
      details: ends of the names of scores that tables in a terminal have no room for.
      wrong: the deviation that is white in pictures of errors.
      doubtful: the uncertainty that is white in pictures of it.
      interval: deviation that 90% of all stay below, in units of the uncertainty; None where there are no intervals.
    """

    name: str
    loss_weight: float

    channels: ClassVar[int] = 3
    dtype: ClassVar[type] = np.uint8
    headlines: ClassVar[tuple[str, ...]]
    details: ClassVar[tuple[str, ...]] = ()
    wrong: ClassVar[float]
    doubtful: ClassVar[float]
    interval: ClassVar[float | None] = 1.645  # of a normal distribution, whose standard deviation is the uncertainty

    def mirror(self, stored: np.ndarray) -> np.ndarray:
        """Horizontal flip of pixels ``[..., H, W, C]``."""
        return pixels.mirror(stored)

    @abc.abstractmethod
    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        """Array in [-1, 1] -> what a user gets."""

    @abc.abstractmethod
    def differentiable(self, array: Any) -> Any:
        """JAX array in [-1, 1] -> the value before it is rounded or named, by operations that have gradients."""

    def discrepancy(self, array: Any, truth: Any, where: Any, facts: Facts) -> Any:  # noqa: ARG002 some kinds need all
        """How far JAX arrays ``[B, H, W, C]`` in [-1, 1] are from the truth, ``[B, H, W]``, with gradients.

        Means over the pixels `where`, bool ``[B, H, W]``, are to be made small; what is elsewhere means nothing.
        """
        apart = abs(self.differentiable(array) - self.differentiable(truth))
        return apart.mean(-1) if apart.ndim > where.ndim else apart

    @abc.abstractmethod
    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        """What a user gives -> array in [-1, 1]; the inverse of `value`."""

    @abc.abstractmethod
    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        """Value -> uint8 ``[..., H, W, 3]`` to look at."""

    def files(self, value: np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
        """Value of one sample -> file name, .png or .npy -> pixels or numbers to save in it."""
        return {f"{self.name}.png": self.picture(value, facts)}

    @abc.abstractmethod
    def deviation(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """How far values are from the truth, ``[..., H, W]``, in the unit of the uncertainty."""

    def error(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """Error ``[..., H, W]`` in pictures of errors: 0 = none, 1 and more = white."""
        return self.deviation(value, truth, facts) / self.wrong

    @abc.abstractmethod
    def enlarged(self, value: np.ndarray, to: Upsampler, facts: Facts) -> np.ndarray:
        """A value [h, w(, 3)] at the size of a photo, with its edges."""

    @abc.abstractmethod
    def combine(self, draws: np.ndarray, facts: Facts) -> Combined:
        """Values of K > 1 draws of each image [n, K, H, W(, 3)] -> one value, and how far draws are apart."""

    @abc.abstractmethod
    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Scores of values [N, H, W(, 3)], averaged over images; area "" is where the truth exists."""

    def condition(self, given: object, size: pixels.Frame, facts: Facts, role: str = "given") -> np.ndarray:
        """What a user brings -> values [n, H, W(, 3)], made to fit as `pixels.fitted` does.

        Args:
          given: path of an image or NPY file, an image of Pillow, which is read as a file of it is, or an array, as
            each kind describes it, perhaps with a leading axis of samples; numbers of the right size are not changed.
          size: the frame of the result, a square of this side if it is a number.
          facts: of the model.
          role: what it is for, as messages call it.

        Raises:
          UsageError: unreadable file, wrong type, shape or range; names the file, what was found and what is allowed.
        """
        if isinstance(given, str | os.PathLike):
            source = Source(f"{role} {self.name} ({given})")
            if os.fspath(given).lower().endswith(".npy"):
                return self.from_given(files.read_array(given, source), size, facts, source)
            array = self.from_file(files.read_image(given, source), facts, source)
            return self.from_given(array, size, facts, source)
        if isinstance(given, Image.Image):
            source = Source(f"{role} {self.name} (image)")
            return self.from_given(self.from_file(files.decoded(given, source), facts, source), size, facts, source)
        array = files.given_array(given, Source(f"{role} {self.name}"))
        return self.from_given(array, size, facts, Source(f"{role} {self.name} (array)"))

    @abc.abstractmethod
    def from_given(self, given: np.ndarray, size: pixels.Frame, facts: Facts, source: Source) -> np.ndarray:
        """The part of `condition` that kinds differ in: an array of any size -> values [n, H, W(, 3)]."""

    def from_file(self, image: Decoded, facts: Facts, source: Source) -> np.ndarray:
        """An image file that a user brings -> an array that `from_given` takes, at its own size and precision."""
        return self.from_image(image, source)

    def read(self, path: epath.PathLike) -> np.ndarray:
        """An image file of a tree -> pixels [H, W, C] at its own size; raises UsageError that names it."""
        source = Source(f"{self.name} {path}")
        return self.from_image(files.read_image(path, source), source)

    @abc.abstractmethod
    def from_image(self, image: Decoded, source: Source) -> np.ndarray:
        """An image -> pixels [H, W, C] at its own size; raises UsageError for one that cannot hold this modality."""

    def valid(self, stored: np.ndarray) -> np.ndarray:
        """Bool [..., H, W], which pixels ``[..., H, W, C]`` have a value, in a data set that has holes; see `holes`."""
        return np.ones(stored.shape[:-1], bool)

    def square(self, stored: np.ndarray, size: int, valid: np.ndarray | None = None) -> np.ndarray:
        """Pixels [H, W, C] resampled and cropped to [size, size, C].

        `valid` says which pixels have a value, bool [H, W]; with None all have, or the pixels themselves tell it.
        """
        return pixels.center_crop(stored, size)


class Colour(Modality):
    """Colours. Value: uint8 ``[..., H, W, 3]``. Users bring image files of any kind, or uint8 arrays."""

    headlines: ClassVar[tuple[str, ...]] = ("psnr",)
    wrong: ClassVar[float] = 0.25
    doubtful: ClassVar[float] = 0.1

    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.to_pixels(array, np.uint8)

    def differentiable(self, array: Any) -> Any:
        """Colours ``[..., H, W, 3]`` from 0 to 1."""
        return (array + 1) / 2

    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.to_array(np.asarray(value))

    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return value

    def deviation(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """Of all channels, as a share of 255."""
        return np.abs(value.astype(np.float32) - truth.astype(np.float32)).mean(-1) / 255

    def enlarged(self, value: np.ndarray, to: Upsampler, facts: Facts) -> np.ndarray:
        return np.clip(np.rint(to.mean(value.astype(np.float32))), 0, 255).astype(np.uint8)

    def combine(self, draws: np.ndarray, facts: Facts) -> Combined:
        """The mean, and the standard deviation (of the three channels, root of the mean square) as a share of 255."""
        mean, variance = _moments(draws)
        return Combined(np.rint(mean).astype(np.uint8), np.sqrt(variance.mean(-1)).astype(np.float32) / 255)

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Peak signal to noise ratio, psnr, in dB."""
        return {"psnr": measure.over_images(measure.psnr(prediction, truth, areas[""]), areas[""])}

    def from_given(self, given: np.ndarray, size: pixels.Frame, facts: Facts, source: Source) -> np.ndarray:
        files.check_type(given, "u1", "uint8", source)
        return np.stack([pixels.fitted(image, size) for image in files.stack(given, 3, source)])

    def from_image(self, image: Decoded, source: Source) -> np.ndarray:
        """Colours or grey of any depth; the colours of transparent pixels are those that are stored."""
        if image.linear:
            raise source.error("holds amounts of light (EXR)", "a picture to look at, such as PNG of 8 or 16 bits")
        if image.is_float:
            files.check_finite(image.samples, 0, 1, source, "floats in [0, 1]")
        return image.colors()


class Scalar(Modality):
    """One number a pixel. Value: float in [0, 1] ``[..., H, W]``.

    Users bring greyscale image files of any depth, uint8 or uint16 arrays, or floats in [0, 1].
    """

    channels = 1
    dtype = np.uint16
    headlines: ClassVar[tuple[str, ...]] = ("l1",)
    wrong: ClassVar[float] = 0.25
    doubtful: ClassVar[float] = 0.05
    meaning: ClassVar[str] = "floats in [0, 1]"

    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        return np.clip((np.asarray(array, np.float32)[..., 0] + 1) / 2, 0, 1)

    def differentiable(self, array: Any) -> Any:
        return (array[..., 0] + 1) / 2

    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return (np.asarray(value, np.float32) * 2 - 1)[..., None]

    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.turbo(value)

    def files(self, value: np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
        return {f"{self.name}.png": pixels.to_pixels(2 * value.astype(np.float64) - 1, np.uint16)}

    def deviation(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        return np.abs(value - truth)

    def enlarged(self, value: np.ndarray, to: Upsampler, facts: Facts) -> np.ndarray:
        return np.clip(to.mean(value[..., None])[..., 0], 0, 1)

    def combine(self, draws: np.ndarray, facts: Facts) -> Combined:
        """The mean, and the standard deviation."""
        mean, variance = _moments(draws)
        return Combined(np.clip(mean, 0, 1).astype(np.float32), np.sqrt(variance).astype(np.float32))

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Mean absolute error, l1."""
        error = np.abs(prediction.astype(np.float64) - truth)
        return measure.averages(lambda where: {"l1": measure.image_mean(error, where)}, areas)

    def from_given(self, given: np.ndarray, size: pixels.Frame, facts: Facts, source: Source) -> np.ndarray:
        files.check_type(given, "u1 u2 f", "uint8, uint16 or float", source)
        images = files.stack(given, 1, source)
        if given.dtype.kind == "f":
            images = holes.fill_given(images, np.isfinite(images[..., 0]), source)
            images = files.check_finite(images, 0, 1, source, self.meaning)
        else:
            images = images.astype(np.float32) / np.iinfo(given.dtype).max
        return np.clip(np.stack([pixels.fitted(image, size) for image in images])[..., 0], 0, 1)

    def from_file(self, image: Decoded, facts: Facts, source: Source) -> np.ndarray:
        grey = files.grey(image, source)
        return grey.samples if grey.is_float else (grey.samples / grey.top).astype(np.float32)

    def from_image(self, image: Decoded, source: Source) -> np.ndarray:
        """Grey of any depth, in one channel or in three equal ones -> uint16 [H, W, 1]."""
        grey = files.grey(image, source)
        if grey.is_float:
            files.check_finite(grey.samples, 0, 1, source, self.meaning)
        return grey.scaled(65535, np.uint16)[..., None]

    def numbers(self, path: epath.PathLike) -> tuple[np.ndarray, int]:
        """The numbers [H, W] in an image file of a tree, and the largest one that its type has, 1 for floats."""
        source = Source(f"{self.name} {path}")
        grey = files.grey(files.read_image(path, source), source)
        return grey.samples, grey.top

    def valid(self, stored: np.ndarray) -> np.ndarray:
        return stored[..., 0] != 0

    def square(self, stored: np.ndarray, size: int, valid: np.ndarray | None = None) -> np.ndarray:
        if stored.shape[:2] == (size, size):
            return stored
        numbers = stored.astype(np.float32) / 65535
        if valid is not None:
            numbers, valid = holes.center_crop(numbers, valid, size)
            image = pixels.to_pixels(numbers.astype(np.float64) * 2 - 1, np.uint16)
            return np.where(valid[..., None], np.maximum(image, 1), 0).astype(np.uint16)
        numbers = pixels.center_crop(numbers, size)
        return pixels.to_pixels(np.clip(numbers, 0, 1).astype(np.float64) * 2 - 1, np.uint16)


def _moments(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and unbiased variance of draws [n, K, ...], float64 [n, ...]."""
    draws = np.asarray(draws, np.float64)
    return draws.mean(1), draws.var(1, ddof=1)
