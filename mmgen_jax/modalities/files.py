"""Conditions that users bring: files and arrays of any size -> values of the model's size.

What is read as what (an array may have a leading axis of samples):

* rgb: PNG or JPEG; uint8 [H, W, 3];
* depth, 1 = nearest: greyscale PNG or JPEG of 8 or 16 bits; uint8 or uint16 [H, W], or float in [0, 1];
* normal: RGB PNG with (n + 1) / 2 * 255; uint8 [H, W, 3], or float vectors of any length in [-1, 1];
* mask: RGB PNG in the palette's colours, or greyscale or indexed PNG with region ids; uint8 [H, W, 3] colours or
  integer [H, W] ids. A model without a palette takes any colours, and no ids.

Arrays may come as NPY files. Everything is made square as in ADM (Dhariwal & Nichol 2021): halved by boxes while the
short side is at least twice the target, bicubic to the target, centre crop; masks by nearest neighbour.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from etils import epath
from PIL import Image, ImageOps

from mmgen_jax.modalities.registry import NAMES, nearest_color
from mmgen_jax.system.errors import UsageError

BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
_SMALLEST = 2
_COLOR_DISTANCE = 60.0  # on the 0..255 scale; JPEG artefacts stay below
_UNIT = 1.001  # largest component of a unit vector, with room for rounding
_FOREIGN_SHARE = 0.05  # share of pixels that may have a colour outside the palette, as blurred borders have


@dataclass(frozen=True)
class Source:
    """Where an array comes from, for messages: "given rgb (photo.png)"."""

    modality: str
    origin: str

    def error(self, found: str, allowed: str) -> UsageError:
        return UsageError(f"given {self.modality} ({self.origin}) {found}; allowed: {allowed}")


def read(path: epath.PathLike, modality: str) -> np.ndarray:
    """Pixels or numbers of a PNG, JPEG or NPY file as stored; raises UsageError if it cannot be read."""
    source, path = Source(modality, str(path)), epath.Path(path)
    if not path.exists():
        raise source.error("does not exist", "a PNG, JPEG or NPY file")
    if path.is_dir():
        raise source.error("is a folder", "a PNG, JPEG or NPY file")
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return _pixels(ImageOps.exif_transpose(image), modality, source)
    except UsageError:
        raise
    except BROKEN as error:
        raise source.error(f"cannot be read ({error})", "a PNG, JPEG or NPY file") from error


def _pixels(image: Image.Image, modality: str, source: Source) -> np.ndarray:
    """What one file format hides: indexed colours, an alpha channel without use, 16 bits in 32."""
    if image.mode == "P":
        return np.array(image) if modality == "mask" else np.array(image.convert("RGB"))
    if image.mode in ("RGBA", "LA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise source.error("is partly transparent", "opaque images")
        return np.array(image.convert(image.mode[:-1]))
    if image.mode.startswith("I"):  # 16 bits, which Pillow may give as 32
        return np.array(image).astype(np.uint16)
    if image.mode not in ("RGB", "L"):
        raise source.error(f"has colour mode {image.mode}", "RGB or greyscale")
    return np.array(image)


def center_crop(planes: np.ndarray, size: int, nearest: bool = False) -> np.ndarray:
    """ADM's centre crop: [H, W, C] uint8, or float32, -> [size, size, C] of the same type.

    Bicubic interpolation overshoots, so floats can leave their range by a little. `nearest` picks values only.
    """
    if planes.shape[:2] == (size, size):
        return planes
    if planes.dtype == np.uint8 and planes.shape[2] == 3:
        return np.array(_square(Image.fromarray(planes), size, nearest))
    squares = [np.array(_square(Image.fromarray(plane), size, nearest)) for plane in np.moveaxis(planes, -1, 0)]
    return np.stack(squares, -1)


def _square(image: Image.Image, size: int, nearest: bool) -> Image.Image:
    while not nearest and min(image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), Image.Resampling.BOX)
    scale = size / min(image.size)
    method = Image.Resampling.NEAREST if nearest else Image.Resampling.BICUBIC
    image = image.resize(tuple(round(x * scale) for x in image.size), method)
    left, top = ((x - size) // 2 for x in image.size)
    return image.crop((left, top, left + size, top + size))


def _stack(array: np.ndarray, channels: int, source: Source) -> np.ndarray:
    """[H, W], [H, W, C], [n, H, W] or [n, H, W, C] -> [n, H, W, C]."""
    # A last axis of 1, 3 or 4 is one of channels: the image is never taken for several that are so narrow.
    flat = channels == 1 and (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)))
    images = array[..., None] if flat else array
    images = images[None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] != channels:
        shape = "H, W" if channels == 1 else f"H, W, {channels}"
        raise source.error(f"has shape {list(array.shape)}", f"[{shape}] or [n, {shape}]")
    if min(images.shape[1:3]) < _SMALLEST or not len(images):
        raise source.error(f"has shape {list(array.shape)}", f"images of at least {_SMALLEST} x {_SMALLEST} pixels")
    return images


def _finite(images: np.ndarray, low: float, high: float, source: Source, meaning: str) -> np.ndarray:
    if not np.isfinite(images).all():
        raise source.error("has numbers that are not finite", meaning)
    if images.min() < low or images.max() > high:
        raise source.error(f"has values from {images.min():.4g} to {images.max():.4g}", meaning)
    return images.astype(np.float32)


def _kind(array: np.ndarray, kinds: str, allowed: str, source: Source) -> None:
    """`kinds`: letters of NumPy's kinds with sizes, as "u1 u2 f"."""
    code = f"{array.dtype.kind}{array.dtype.itemsize}"
    if not any(code.startswith(kind) for kind in kinds.split()):
        raise source.error(f"has type {array.dtype}", allowed)


def _rgb(array: np.ndarray, size: int, palette: np.ndarray, source: Source) -> np.ndarray:
    _kind(array, "u1", "uint8", source)
    return np.stack([center_crop(image, size) for image in _stack(array, 3, source)])


def _depth(array: np.ndarray, size: int, palette: np.ndarray, source: Source) -> np.ndarray:
    _kind(array, "u1 u2 f", "uint8, uint16 or float", source)
    images = _stack(array, 1, source)
    if array.dtype.kind == "f":
        images = _finite(images, 0, 1, source, "floats in [0, 1], 1 = nearest")
    else:
        images = images.astype(np.float32) / np.iinfo(array.dtype).max
    return np.clip(np.stack([center_crop(image, size) for image in images])[..., 0], 0, 1)


def _normal(array: np.ndarray, size: int, palette: np.ndarray, source: Source) -> np.ndarray:
    _kind(array, "u1 f", "uint8 or float", source)
    images = _stack(array, 3, source)
    if array.dtype.kind == "f":
        images = _finite(images, -_UNIT, _UNIT, source, "float vectors in [-1, 1]")
    else:
        images = images.astype(np.float32) / 127.5 - 1
    if (np.linalg.norm(images, axis=-1).max(axis=(1, 2)) < 0.1).any():
        raise source.error("has only vectors of length zero", "unit vectors")
    images = np.stack([center_crop(image, size) for image in images])
    return images / np.maximum(np.linalg.norm(images, axis=-1, keepdims=True), 1e-6)


def _mask(array: np.ndarray, size: int, palette: np.ndarray, source: Source) -> np.ndarray:
    _kind(array, "u i", "integers", source)
    colored = array.dtype == np.uint8 and array.ndim >= 3 and array.shape[-1] == 3
    if not len(palette):  # any colours are regions
        if not colored:
            raise source.error(f"has type {array.dtype} {list(array.shape)}", "uint8 colours, as the model has no ids")
        return np.stack([center_crop(image, size, nearest=True) for image in _stack(array, 3, source)])
    ids = _ids(_stack(array, 3, source), palette, source)[..., None] if colored else _stack(array, 1, source)
    if ids.min() < 0 or ids.max() >= len(palette):
        raise source.error(f"has region ids from {ids.min()} to {ids.max()}", f"ids 0 to {len(palette) - 1}")
    images = [center_crop(image.astype(np.int32), size, nearest=True) for image in ids]
    return np.stack(images)[..., 0]


def _ids(colors: np.ndarray, palette: np.ndarray, source: Source) -> np.ndarray:
    ids = nearest_color(colors, palette)
    foreign = np.linalg.norm(colors.astype(np.float32) - palette[ids], axis=-1) > _COLOR_DISTANCE
    if foreign.mean() > _FOREIGN_SHARE:
        shown = ", ".join("#" + bytes(color.tolist()).hex() for color in palette[:12])
        raise source.error(f"has {foreign.mean():.0%} of its pixels in colours that are not a region's", shown)
    return ids


_READERS: dict[str, Callable[[np.ndarray, int, np.ndarray, Source], np.ndarray]] = {
    "rgb": _rgb,
    "depth": _depth,
    "normal": _normal,
    "mask": _mask,
}
assert tuple(_READERS) == NAMES


def condition(modality: str, given: object, size: int, palette: np.ndarray) -> np.ndarray:
    """What a user gives for one modality -> values as in `modalities`, [n, size, size(, 3)].

    Args:
      modality: its name.
      given: path of a file, or an array as described above; numbers of the right size are not changed.
      size: height and width of the result.
      palette: uint8 [R, 3], colours of the regions.

    Raises:
      UsageError: unreadable file, wrong type, shape or range; names the file, what was found and what is allowed.
    """
    if isinstance(given, str | os.PathLike):
        return _READERS[modality](read(given, modality), size, palette, Source(modality, str(given)))
    return _READERS[modality](np.asarray(given), size, palette, Source(modality, "array"))
