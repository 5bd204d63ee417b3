"""The reader of image files, for trees of training images and for conditions that users bring; and checks of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from etils import epath
from PIL import Image, ImageOps

from mmgen_jax.system.errors import UsageError

BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP")  # of trees
GIVEN_FORMATS = ("PNG", "JPEG")
_GIVEN = "a PNG, JPEG or NPY file"
_SMALLEST = 2


@dataclass(frozen=True)
class Source:
    """Where pixels come from, for messages: "given rgb (photo.png)", or "depth tree/001.png"."""

    text: str

    def error(self, found: str, allowed: str) -> UsageError:
        return UsageError(f"{self.text} {found}; allowed: {allowed}")


def open_image(path: epath.PathLike, formats: tuple[str, ...], source: Source) -> Image.Image:
    """An image file, upright as its EXIF says and without an alpha channel that hides nothing.

    Raises:
      UsageError: it cannot be read, has another format than `formats`, or is partly transparent.
    """
    try:
        with epath.Path(path).open("rb") as file, Image.open(file, formats=formats) as opened:
            image = ImageOps.exif_transpose(opened)
            image.load()
    except BROKEN as error:
        raise source.error(f"cannot be read ({error})", ", ".join(formats)) from error
    if image.mode in ("RGBA", "LA", "PA"):
        if image.getchannel("A").getextrema() != (255, 255):
            raise source.error("is partly transparent", "opaque images")
        return image.convert("L" if image.mode == "LA" else "RGB")
    return image


def read_given(path: epath.PathLike, source: Source, keeps_ids: bool) -> np.ndarray:
    """Pixels or numbers of a PNG, JPEG or NPY file that a user brings, as stored.

    Args:
      path: of the file.
      source: for messages.
      keeps_ids: indexed images are arrays of indices rather than of colours.

    Raises:
      UsageError: the file does not exist, cannot be read, or has a colour mode with another meaning.
    """
    path = epath.Path(path)
    if not path.exists():
        raise source.error("does not exist", _GIVEN)
    if path.is_dir():
        raise source.error("is a folder", _GIVEN)
    if path.suffix.lower() == ".npy":
        try:
            return np.load(path, allow_pickle=False)
        except BROKEN as error:
            raise source.error(f"cannot be read ({error})", _GIVEN) from error
    image = open_image(path, GIVEN_FORMATS, source)
    if image.mode == "P":
        return np.array(image if keeps_ids else image.convert("RGB"))
    if image.mode.startswith("I"):  # 16 bits, which Pillow may give as 32
        return np.array(image).astype(np.uint16)
    if image.mode not in ("RGB", "L"):
        raise source.error(f"has colour mode {image.mode}", "RGB or greyscale")
    return np.array(image)


def stack(array: np.ndarray, channels: int, source: Source) -> np.ndarray:
    """[H, W], [H, W, C], [n, H, W] or [n, H, W, C] -> [n, H, W, C]; raises UsageError for another shape."""
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


def check_finite(images: np.ndarray, low: float, high: float, source: Source, meaning: str) -> np.ndarray:
    """Numbers as float32; raises UsageError unless all are finite and from `low` to `high`."""
    if not np.isfinite(images).all():
        raise source.error("has numbers that are not finite", meaning)
    if images.min() < low or images.max() > high:
        raise source.error(f"has values from {images.min():.4g} to {images.max():.4g}", meaning)
    return images.astype(np.float32)


def check_type(array: np.ndarray, kinds: str, allowed: str, source: Source) -> None:
    """Raises UsageError unless the type is one of `kinds`: letters of NumPy's kinds with sizes, as "u1 u2 f"."""
    code = f"{array.dtype.kind}{array.dtype.itemsize}"
    if not any(code.startswith(kind) for kind in kinds.split()):
        raise source.error(f"has type {array.dtype}", allowed)
