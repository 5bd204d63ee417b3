"""The reader of image files, for trees of training images and for conditions that users bring; and checks of arrays."""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass

import numpy as np
from etils import epath
from PIL import Image

from mmgen_jax.modalities.decoding import Decoded, decode, opened
from mmgen_jax.system import reading
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.files import is_remote

_LARGEST = 2**31  # bytes of a file that is read
_GIVEN = "an image or NPY file"
_SMALLEST = 2
_LONGEST = 64  # times the other side
_SOME_COLORS = 64  # of a mask; one with more, most of them rare, was resized smoothly or a JPEG file once
_FEW_PIXELS = 4
_GREY_DISTANCE = 16  # of levels that are regions, where there is only grey; those of 4 bits are 17 apart


@dataclass(frozen=True)
class Source:
    """Where pixels come from, for messages: "given rgb (photo.png)", or "depth tree/001.png"."""

    text: str

    def error(self, found: str, allowed: str) -> UsageError:
        return UsageError(f"{self.text} {found}; allowed: {allowed}")


def read_image(path: epath.PathLike, source: Source) -> Decoded:
    """An image file, see `decoding`; raises UsageError where it cannot be read."""
    return decoded(_read(path, source), source)


def decoded(data: bytes | Image.Image, source: Source) -> Decoded:
    """The image of a file's bytes, or one that Pillow holds, see `decoding`; raises UsageError where there is none."""
    try:
        image = decode(data) if isinstance(data, bytes) else opened(data)
    except Exception as error:  # decoders of damaged files raise anything
        raise source.error(f"cannot be read ({_reason(error)})", "an image file that is whole") from error
    _check_sides(image.samples.shape[0], image.samples.shape[1], source)
    return image


def _check_sides(height: int, width: int, source: Source) -> None:
    """A thin image that is resized until it can be cropped to a square may not fit the memory."""
    if max(height, width) > _LONGEST * min(height, width):
        raise source.error(f"has {width}x{height} pixels", f"one side at most {_LONGEST} times as long as the other")


def read_array(path: epath.PathLike, source: Source) -> np.ndarray:
    """The array of an NPY file; raises UsageError where it cannot be read. Nothing in it is executed."""
    data = _read(path, source)
    try:
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # headers are Python text, which may be of any length and depth, and claim any size
        raise source.error(f"cannot be read ({_reason(error)})", "an NPY file of numbers that is whole") from error


def given_array(given: object, source: Source) -> np.ndarray:
    """What a user passes as an array; raises UsageError for what cannot be made one."""
    try:
        return np.asarray(given)
    except Exception as error:  # an object of the user's may raise anything
        raise UsageError(f"{source.text} is of type {type(given).__name__}, which is not an array: {error}") from error


def _read(path: epath.PathLike, source: Source) -> bytes:
    """The bytes of a file; raises UsageError for what is not one, without waiting for what never ends."""
    if is_remote(path) and not str(path).startswith("gs://"):
        raise source.error("is a URL", f"{_GIVEN} on this machine or in gs://")
    try:
        file = reading.regular(path, source.text, _GIVEN)
        if (size := file.stat().length) > _LARGEST:
            raise source.error(f"has {size} bytes", f"{_GIVEN} of at most 2^31 bytes")
        return file.read_bytes()
    except UsageError:
        raise
    except Exception as error:  # remote storage has errors of its own
        raise source.error(f"cannot be opened ({_reason(error)})", _GIVEN) from error


def _reason(error: Exception) -> str:
    """The beginning of what an error says, or its type if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def grey(image: Decoded, source: Source) -> Decoded:
    """The image in one channel; raises UsageError for colours."""
    image = image.shown()
    if image.samples.ndim == 2:
        return image
    if (image.samples != image.samples[..., :1]).any():
        raise source.error("has colours", "grey, of any depth")
    return dataclasses.replace(image, samples=image.samples[..., 0])


def three_channels(image: Decoded, source: Source) -> Decoded:
    """The image, not indexed; raises UsageError for greyscale."""
    image = image.shown()
    if image.samples.ndim != 3:
        raise source.error("is grey", "three channels: x, y and z")
    return image


def flat_colors(image: Decoded, source: Source) -> np.ndarray:
    """Colours of regions, uint8 [H, W, 3]; raises UsageError where they are not what was painted, or too much alike."""
    allowed = "one flat colour per region, in a file that keeps colours, such as PNG"
    if image.is_float:
        raise source.error("has numbers that are floats", allowed)
    if image.lossy:
        raise source.error("is compressed by a method that changes colours", allowed)
    if not image.fits_8_bits():
        raise source.error(f"has colours of 0 to {image.top} that 8 bits cannot tell apart", allowed)
    colors = image.colors()
    painted, counts = np.unique(colors.reshape(-1, 3) @ np.array([65536, 256, 1], np.int32), return_counts=True)
    rare = counts < _FEW_PIXELS
    most = len(painted) > _SOME_COLORS and rare.mean() > 0.5
    if most and counts[rare].sum() < 0.75 * counts.sum():  # a larger share is noise, not blends of other colours
        found = (
            f"has {len(painted)} colours, {rare.sum()} of them in less than {_FEW_PIXELS} pixels, as blurred masks do"
        )
        raise source.error(found, allowed)
    levels = painted[painted % 256 * 0x10101 == painted] % 256
    if len(levels) == len(painted) > 1 and np.diff(levels).min() < _GREY_DISTANCE:
        raise source.error("has levels of grey that look alike, as region ids do", allowed)
    return colors


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
    _check_sides(images.shape[1], images.shape[2], source)
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
