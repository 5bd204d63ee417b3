"""Stored pixels, arrays in [-1, 1] and pictures to look at: what is the same for every modality."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from mmgen_jax.system.errors import NotFinite

if TYPE_CHECKING:
    import jax

# JAX's by its name: `--help` of some commands lists the modalities, and has no second for importing JAX.
# What an image is made to fit: the central square of a side, the whole at a height and width, or None: as it is.
Frame = int | tuple[int, int] | None
Either = TypeVar("Either", np.ndarray, "jax.Array")
_NO_LENGTH = 0.02  # of a vector; (127, 128, 128) is 0.01 long
_CHUNK = 2**22  # distances of colours that are computed at once


def to_array(pixels: Either) -> Either:
    """Stored pixels (uint8 or uint16) to float32 in [-1, 1]; works on NumPy and JAX arrays."""
    half = np.iinfo(pixels.dtype).max / 2
    return pixels.astype(np.float32) / np.float32(half) - np.float32(1)


def finite(numbers: np.ndarray) -> np.ndarray:
    """Returns the numbers, before they are made integers of; raises NotFinite if one is NaN or infinite.

    As an integer it would be any number, 0 mostly, and look like one that was meant.
    """
    bad = np.size(numbers) - np.count_nonzero(np.isfinite(numbers))
    if bad:
        raise NotFinite(f"{bad} of {np.size(numbers)} numbers are NaN or infinite, which no pixel can be")
    return numbers


def to_pixels(array: np.ndarray, dtype: type) -> np.ndarray:
    """Float array in [-1, 1] to stored pixels of an unsigned integer type, rounded and clipped. Raises NotFinite."""
    top = np.iinfo(dtype).max
    numbers = np.add(finite(array), 1, dtype=np.float64)  # changed in place from here on, as images may be large
    numbers *= top / 2
    np.rint(numbers, out=numbers)
    return np.clip(numbers, 0, top, out=numbers).astype(dtype)


def mirror(pixels: np.ndarray) -> np.ndarray:
    """Horizontal flip of [..., H, W, C]."""
    return pixels[..., :, ::-1, :]


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Vectors [..., 3] at length one; those near zero, which is what grey pixels are, become zero."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length < _NO_LENGTH, 0, vectors / np.maximum(length, _NO_LENGTH))


def nearest_color(colors: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Region ids int32 [...] of colours [..., 3] on the 0..255 scale: the nearest row of the palette uint8 [R, 3].

    Distances are computed for some pixels at a time, as a palette may have thousands of rows. Raises NotFinite.
    """
    flat, rows = np.asarray(finite(colors), np.float32).reshape(-1, 3), palette.astype(np.float32)
    ids, step = np.empty(len(flat), np.int32), max(1, _CHUNK // len(rows))
    for first in range(0, len(flat), step):
        part = flat[first : first + step]
        distance = np.zeros((len(part), len(rows)), np.float32)
        for c in range(3):
            distance += (part[:, None, c] - rows[:, c]) ** 2
        ids[first : first + step] = distance.argmin(-1)
    return ids.reshape(colors.shape[:-1])


def turbo(value: np.ndarray) -> np.ndarray:
    """Colour map: [0, 1] to uint8 RGB, by the published degree-5 fit of Google's Turbo. Raises NotFinite."""
    x = np.clip(np.asarray(finite(value), np.float64), 0, 1)
    powers = np.stack([x**k for k in range(6)], -1)
    fit = np.array(
        [
            [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
            [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
            [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
        ]
    )
    return np.clip(np.rint(255 * (powers @ fit.T)), 0, 255).astype(np.uint8)


def fitted(planes: np.ndarray, frame: Frame, nearest: bool = False) -> np.ndarray:
    """An image [H, W, C] made to fit a frame, as `center_crop` resamples."""
    if frame is None or planes.shape[:2] == frame:
        return planes
    if isinstance(frame, int):
        return center_crop(planes, frame, nearest)
    return _each(planes, lambda image: _whole(image, frame, nearest))


def center_crop(planes: np.ndarray, size: int, nearest: bool = False) -> np.ndarray:
    """ADM's centre crop (Dhariwal & Nichol 2021): [H, W, C] -> [size, size, C] of the same type, uint8 or float32.

    The image is halved by boxes while its short side is at least twice the target, resized bicubically to the target
    and cropped. Bicubic interpolation overshoots, so floats can leave their range by a little. `nearest` picks values
    only, as region ids and their colours must not be mixed.
    """
    if planes.shape[:2] == (size, size):
        return planes
    return _each(planes, lambda image: _square(image, size, nearest))


def _each(planes: np.ndarray, change: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """Planes [H, W, C] that are changed as images: three of uint8 together, others each alone."""
    if planes.dtype == np.uint8 and planes.shape[2] == 3:
        return np.array(change(Image.fromarray(planes)))
    return np.stack([np.array(change(Image.fromarray(plane))) for plane in np.moveaxis(planes, -1, 0)], -1)


def _whole(image: Image.Image, frame: tuple[int, int], nearest: bool) -> Image.Image:
    """The whole image at height and width of the frame."""
    height, width = frame
    while not nearest and image.width >= 2 * width and image.height >= 2 * height:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    return image.resize((width, height), Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC)


def _square(image: Image.Image, size: int, nearest: bool) -> Image.Image:
    while not nearest and min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    image = image.resize((round(image.width * scale), round(image.height * scale)), method)
    left, top = ((x - size) // 2 for x in image.size)
    return image.crop((left, top, left + size, top + size))
