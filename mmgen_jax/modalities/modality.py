"""What each modality must be able to do, and three of the four kinds that there are; `directions` has the other.

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
from typing import ClassVar

import numpy as np
from etils import epath

from mmgen_jax.modalities import files, holes, measure, pixels
from mmgen_jax.modalities.decoding import Decoded
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.measure import Average, Averages
from mmgen_jax.system.errors import UsageError

Areas = Mapping[str, np.ndarray]  # prefix of a score's name -> bool [N, H, W], the pixels that it looks at

_COLOR_DISTANCE = 60.0  # on the 0..255 scale; JPEG artefacts stay below
_FOREIGN_SHARE = 0.05  # share of pixels that may have a colour outside the palette, as blurred borders have


@dataclass(frozen=True)
class Modality(abc.ABC):
    """A modality: its place in dicts and losses, its storage, and all that is done with its images.

    Attributes:
      name: key of the modality in every dict.
      loss_weight: weight of its velocity loss in the published recipe.
      channels: channels of its pixels.
      dtype: integer type of its stored pixels.
      headlines: scores that stand for all of them in short tables, as `score` names them; those that there are count.
    """

    name: str
    loss_weight: float

    channels: ClassVar[int] = 3
    dtype: ClassVar[type] = np.uint8
    headlines: ClassVar[tuple[str, ...]]

    def mirror(self, stored: np.ndarray) -> np.ndarray:
        """Horizontal flip of pixels ``[..., H, W, C]``."""
        return pixels.mirror(stored)

    @abc.abstractmethod
    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        """Array in [-1, 1] -> what a user gets."""

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
    def error(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """Error ``[..., H, W]`` in pictures of errors: 0 = none, 1 and more = white."""

    @abc.abstractmethod
    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Scores of values [N, H, W(, 3)], averaged over images; area "" is where the truth exists."""

    def condition(self, given: object, size: int, facts: Facts) -> np.ndarray:
        """What a user brings -> values [n, size, size(, 3)], made square as `pixels.center_crop` does.

        Args:
          given: path of an image or NPY file, or an array, as each kind describes it, perhaps with a leading axis
            of samples; numbers of the right size are not changed.
          size: height and width of the result.
          facts: of the model.

        Raises:
          UsageError: unreadable file, wrong type, shape or range; names the file, what was found and what is allowed.
        """
        if isinstance(given, str | os.PathLike):
            source = Source(f"given {self.name} ({given})")
            if os.fspath(given).lower().endswith(".npy"):
                return self.from_given(files.read_array(given, source), size, facts, source)
            array = self.from_file(files.read_image(given, source), facts, source)
            return self.from_given(array, size, facts, source)
        try:
            array = np.asarray(given)
        except Exception as error:  # an object of the user's may raise anything
            raise UsageError(f"given {self.name} is of type {type(given).__name__}, and no array: {error}") from error
        return self.from_given(array, size, facts, Source(f"given {self.name} (array)"))

    @abc.abstractmethod
    def from_given(self, given: np.ndarray, size: int, facts: Facts, source: Source) -> np.ndarray:
        """The part of `condition` that kinds differ in: an array of any size -> values [n, size, size(, 3)]."""

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

    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.to_pixels(array, np.uint8)

    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.to_array(np.asarray(value))

    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return value

    def error(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """1 = a quarter of the range."""
        return np.abs(value.astype(np.float32) - truth.astype(np.float32)).mean(-1) / 255 / 0.25

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Peak signal to noise ratio, psnr, in dB."""
        return {"psnr": measure.over_images(measure.psnr(prediction, truth, areas[""]), areas[""])}

    def from_given(self, given: np.ndarray, size: int, facts: Facts, source: Source) -> np.ndarray:
        files.check_type(given, "u1", "uint8", source)
        return np.stack([pixels.center_crop(image, size) for image in files.stack(given, 3, source)])

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
    meaning: ClassVar[str] = "floats in [0, 1]"

    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        return np.clip((np.asarray(array, np.float32)[..., 0] + 1) / 2, 0, 1)

    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return (np.asarray(value, np.float32) * 2 - 1)[..., None]

    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.turbo(value)

    def files(self, value: np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
        return {f"{self.name}.png": pixels.to_pixels(2 * value.astype(np.float64) - 1, np.uint16)}

    def error(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """1 = a quarter of the range."""
        return np.abs(value - truth) / 0.25

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Mean absolute error, l1."""
        error = np.abs(prediction.astype(np.float64) - truth)
        return measure.averages(lambda where: {"l1": measure.image_mean(error, where)}, areas)

    def from_given(self, given: np.ndarray, size: int, facts: Facts, source: Source) -> np.ndarray:
        files.check_type(given, "u1 u2 f", "uint8, uint16 or float", source)
        images = files.stack(given, 1, source)
        if given.dtype.kind == "f":
            images = holes.fill_given(images, np.isfinite(images[..., 0]), source)
            images = files.check_finite(images, 0, 1, source, self.meaning)
        else:
            images = images.astype(np.float32) / np.iinfo(given.dtype).max
        return np.clip(np.stack([pixels.center_crop(image, size) for image in images])[..., 0], 0, 1)

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


class Regions(Modality):
    """Region ids, stored as colours. Value: int ids ``[..., H, W]``.

    Where the palette is empty, because regions have any colours, the value is the uint8 colours ``[..., H, W, 3]``.
    Users bring image files in the palette's colours, greyscale or indexed ones with ids, uint8 arrays of colours or
    integer arrays of ids. A model without a palette takes any colours, and no ids.
    """

    headlines: ClassVar[tuple[str, ...]] = ("miou",)

    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        if not len(facts.palette):
            return pixels.to_pixels(array, np.uint8)
        return pixels.nearest_color((np.asarray(array, np.float32) + 1) * 127.5, facts.palette)

    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.to_array(self.picture(np.asarray(value), facts))

    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return facts.palette[value] if len(facts.palette) else value

    def files(self, value: np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
        """Colours and, if there is a palette, ids, of 8 or 16 bits; more regions than 65536 are numbers in a .npy."""
        made = {f"{self.name}.png": self.picture(value, facts)}
        if len(facts.palette):
            dtype = np.min_scalar_type(len(facts.palette) - 1)
            made[f"{self.name}_ids{'.png' if dtype.itemsize <= 2 else '.npy'}"] = value.astype(dtype)
        return made

    def error(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """1 where the region is wrong, 0 elsewhere."""
        wrong = value != truth
        return (wrong if len(facts.palette) else wrong.any(-1)).astype(np.float32)

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Intersection over union of each region over the whole set, iou/NAME, and their mean, miou."""
        if not facts.regions:  # colours of no fixed meaning
            return {}
        shares = measure.iou(measure.confusion(prediction, truth, len(facts.regions), areas[""]))
        one = (slice(i, i + 1) for i in range(len(facts.regions)))
        named = {
            f"iou/{name}": Average(shares.total[i], shares.count[i]) for name, i in zip(facts.regions, one, strict=True)
        }
        return {"miou": shares} | named

    def from_given(self, given: np.ndarray, size: int, facts: Facts, source: Source) -> np.ndarray:
        files.check_type(given, "u i", "integers", source)
        palette = facts.palette
        colored = given.dtype == np.uint8 and given.ndim >= 3 and given.shape[-1] == 3
        if not len(palette):  # any colours are regions
            if not colored:
                found = f"has type {given.dtype} {list(given.shape)}"
                raise source.error(found, "uint8 colours, as the model has no ids")
            return np.stack([pixels.center_crop(image, size, nearest=True) for image in files.stack(given, 3, source)])
        if colored:
            ids = _ids(files.stack(given, 3, source), palette, source)[..., None]
        else:
            ids = files.stack(given, 1, source)
        if ids.min() < 0 or ids.max() >= len(palette):
            raise source.error(f"has region ids from {ids.min()} to {ids.max()}", f"ids 0 to {len(palette) - 1}")
        return np.stack([pixels.center_crop(image.astype(np.int32), size, nearest=True) for image in ids])[..., 0]

    def from_file(self, image: Decoded, facts: Facts, source: Source) -> np.ndarray:
        """Colours, or ids where a grey or indexed image has other colours than the palette's."""
        if not len(facts.palette):
            return self.from_image(image, source)
        if image.is_float:
            return image.samples  # which are refused
        colors, samples = image.colors(), image.samples
        if image.lossy or (samples.ndim == 3 and (samples != samples[..., :1]).any()):
            return colors
        meant = facts.palette[pixels.nearest_color(colors, facts.palette)]
        if image.fits_8_bits() and np.array_equal(meant, colors):
            return colors
        return samples[..., 0] if samples.ndim == 3 else samples

    def from_image(self, image: Decoded, source: Source) -> np.ndarray:
        """Flat colours or levels of grey that can be told apart -> uint8 [H, W, 3]."""
        return files.flat_colors(image, source)

    def square(self, stored: np.ndarray, size: int, valid: np.ndarray | None = None) -> np.ndarray:
        return pixels.center_crop(stored, size, nearest=True)


def _ids(colors: np.ndarray, palette: np.ndarray, source: Source) -> np.ndarray:
    """Ids of colours [n, H, W, 3]; raises UsageError where too many are not near any colour of the palette."""
    ids = pixels.nearest_color(colors, palette)
    foreign = np.linalg.norm(colors.astype(np.float32) - palette[ids], axis=-1) > _COLOR_DISTANCE
    if foreign.mean() > _FOREIGN_SHARE:
        shown = ", ".join("#" + bytes(color.tolist()).hex() for color in palette[:12])
        raise source.error(f"has {foreign.mean():.0%} of its pixels in colours that are not a region's", shown)
    return ids
