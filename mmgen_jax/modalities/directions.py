"""The kind of modality whose pixels are directions."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from mmgen_jax.modalities import files, holes, measure, pixels
from mmgen_jax.modalities.decoding import Decoded
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.geometry import angle
from mmgen_jax.modalities.measure import Averages
from mmgen_jax.modalities.modality import Areas, Combined, Modality
from mmgen_jax.modalities.upsampling import Upsampler

_TINY = 1e-6  # keeps the gradient of a vector of length zero finite
_UNIT = 1.001  # largest component of a unit vector, with room for rounding
_NO_NORMAL = np.uint8(128)  # in all channels of pixels
_NOT_UNIT = 0.5  # a vector whose length differs from 1 by this much is not a normal


class Directions(Modality):
    """Unit vectors in camera space: x right, y up, z towards the camera. Value: float ``[..., H, W, 3]``.

    Users bring RGB image files with (n + 1) / 2 on the scale of their depth, uint8 arrays of the same, or float vectors
    of one length. A vector of another length is not a normal, and neither is one that is NaN.
    """

    headlines: ClassVar[tuple[str, ...]] = ("mean", "objects/mean")
    wrong: ClassVar[float] = 45.0
    doubtful: ClassVar[float] = 20.0
    interval: ClassVar[float | None] = 1.517  # sqrt(ln 10), of two normal angles: squares have an exponential density

    def mirror(self, stored: np.ndarray) -> np.ndarray:
        """Mirroring a surface turns the x component of its direction around."""
        flipped = pixels.mirror(stored).copy()
        flipped[..., 0] = np.iinfo(stored.dtype).max - flipped[..., 0]
        return flipped

    def value(self, array: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.normalise(np.asarray(array, np.float32))

    def differentiable(self, array: Any) -> Any:
        return array / ((array * array).sum(-1)[..., None] + _TINY) ** 0.5

    def discrepancy(self, array: Any, truth: Any, where: Any, facts: Facts) -> Any:  # noqa: ARG002 these need neither
        """One minus the cosine of the angle."""
        return 1 - (self.differentiable(array) * self.differentiable(truth)).sum(-1)

    def array(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return np.asarray(value, np.float32)

    def picture(self, value: np.ndarray, facts: Facts) -> np.ndarray:
        return pixels.to_pixels(value, np.uint8)

    def files(self, value: np.ndarray, facts: Facts) -> dict[str, np.ndarray]:
        """A picture, and the exact numbers."""
        return {f"{self.name}.png": pixels.to_pixels(value, np.uint8), f"{self.name}.npy": value}

    def deviation(self, value: np.ndarray, truth: np.ndarray, facts: Facts) -> np.ndarray:
        """The angle in degrees."""
        return angle(value, truth)

    def enlarged(self, value: np.ndarray, to: Upsampler, facts: Facts) -> np.ndarray:
        return pixels.normalise(to.mean(value)).astype(np.float32)

    def combine(self, draws: np.ndarray, facts: Facts) -> Combined:
        """The mean on the sphere, and the root mean square angle between draws and mean, in degrees.

        With the length R of the mean of K unit vectors this is sqrt(2 (1 - R) K / (K - 1)) radians, as squares of small
        angles are 2 (1 - cos); the last factor is for the mean, which has been fitted to these K.
        """
        mean = np.asarray(draws, np.float64).mean(1)
        spread = 2 * np.maximum(1 - np.linalg.norm(mean, axis=-1), 0) * draws.shape[1] / (draws.shape[1] - 1)
        unit = pixels.normalise(mean).astype(np.float32)
        return Combined(unit, np.degrees(np.sqrt(spread)).astype(np.float32))

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """See `measure.normal_errors`."""
        return measure.averages(lambda where: measure.normal_errors(prediction, truth, where), areas)

    def from_given(self, given: np.ndarray, size: pixels.Frame, facts: Facts, source: Source) -> np.ndarray:
        files.check_type(given, "u1 f", "uint8 or float", source)
        images = files.stack(given, 3, source)
        if given.dtype.kind == "f":
            images, valid = _unit_vectors(images, source)
        else:
            valid, images = self.valid(images), images.astype(np.float32) / 127.5 - 1
        if not valid.any(axis=(1, 2)).all():
            raise source.error("has only vectors of length zero", "unit vectors")
        images = pixels.normalise(holes.fill_given(images, valid, source))
        return pixels.normalise(np.stack([pixels.fitted(image, size) for image in images]))

    def from_file(self, image: Decoded, facts: Facts, source: Source) -> np.ndarray:
        image = files.three_channels(image, source)
        return image.samples if image.is_float else (image.samples / (image.top / 2) - 1).astype(np.float32)

    def from_image(self, image: Decoded, source: Source) -> np.ndarray:
        """(n + 1) / 2 in integers of any depth, or float vectors of any length -> uint8 [H, W, 3]."""
        image = files.three_channels(image, source)
        if not image.is_float:
            return image.scaled(255, np.uint8)
        vectors, valid = _unit_vectors(image.samples[None], source)
        return pixels.to_pixels(np.where(valid[..., None], pixels.normalise(vectors), 0)[0], np.uint8)

    def valid(self, stored: np.ndarray) -> np.ndarray:
        """Vectors of about length one are normals; (128, 128, 128) and black are not."""
        return np.abs(np.linalg.norm(stored.astype(np.float32) / 127.5 - 1, axis=-1) - 1) < _NOT_UNIT

    def square(self, stored: np.ndarray, size: int, valid: np.ndarray | None = None) -> np.ndarray:
        valid = self.valid(stored) if valid is None else valid
        if stored.shape[:2] == (size, size):
            return np.where(valid[..., None], stored, _NO_NORMAL)
        vectors = stored.astype(np.float32) / 127.5 - 1
        if valid.all():
            return pixels.to_pixels(pixels.normalise(pixels.center_crop(vectors, size)), np.uint8)
        vectors, valid = holes.center_crop(vectors, valid, size)
        return pixels.to_pixels(np.where(valid[..., None], pixels.normalise(vectors), 0), np.uint8)


def _unit_vectors(vectors: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Float vectors [n, H, W, 3] at about length one, and which of them are normals, bool [n, H, W].

    Where all are shorter than half, those are normals that are about as long as the longest of the image.
    """
    vectors = np.where(np.isfinite(vectors).all(-1, keepdims=True), vectors, 0)
    vectors = files.check_finite(vectors, -_UNIT, _UNIT, source, "float vectors in [-1, 1]")
    lengths = np.linalg.norm(vectors, axis=-1)
    longest = lengths.max(axis=(1, 2), keepdims=True)
    unit = np.where(longest < 0.5, np.maximum(longest, np.finfo(np.float32).tiny), 1)
    return vectors / unit[..., None], np.abs(lengths / unit - 1) < _NOT_UNIT
