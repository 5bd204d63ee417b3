"""Decodes image files to the numbers that they hold, at their own bit depth, whatever tool wrote them.

Pillow reads most. It would reduce more than 8 bits of several channels to 8, so imagecodecs reads such PNG files, and
tifffile and OpenEXR read their formats. Of several frames the first counts, and alpha channels are dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import math
import os
import struct
import threading
import warnings
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
import OpenEXR
import tifffile
from PIL import Image, ImageFile, ImageMode, UnidentifiedImageError

from mmgen_jax.modalities import metadata

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "QOI")  # Pillow's names
_OTHERS = sorted(s for s, name in Image.registered_extensions().items() if name in (*_FORMATS, "MPO") and s != ".png")
SUFFIXES = (".png", ".exr", *_OTHERS)  # in small letters, of files in trees
_MOST_PIXELS = 2**27  # of an image, half as many where numbers have more than 8 bits, which take more memory
_ANY_PIXELS = 2**24  # that a small file may have: the largest tile in one colour is a few hundred bytes in JPEG 2000
_PIXELS_PER_BYTE = 10_000  # that a larger file may have; one bit of one colour is compressed to 1/8256 in PNG
_PIXELS_PER_BYTE_OF_JPEG = 512  # codes have at least one bit for each block of 8 x 8
_MOST_CHANNELS = 4
_TIFF_PLAIN = ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE")  # what samples are colours without a conversion
_TIFF_JPEG = (6, 7)  # compressions, which change colours
_TIFF_FAX = (2, 3, 4)  # compressions whose decoder makes an image of anything

_MUTING = threading.Lock()
# With the size that is wanted, imagecodecs writes beyond it where LZW data are damaged; without, it finds the size out.
_LZW = {5: lambda data, out=None: imagecodecs.lzw_decode(data)}  # noqa: ARG005
_CODECS: Any = tifffile.TIFF.DECOMPRESSORS
setattr(tifffile.TIFF, "DECOMPRESSORS", ChainMap(_LZW, _CODECS))  # noqa: B010
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it logs of odd metadata does not matter


@dataclass(frozen=True)
class Decoded:
    """An image as it is stored, upright and without an alpha channel.

    Attributes:
      samples: [H, W] or [H, W, 3]: integers from 0 to `top`, or floats; indices if there is a palette.
      top: the largest number that the bit depth has; 1 for floats.
      palette: the colour of each index, uint8 [n, 3], or None.
      lossy: whether compression may have changed the samples.
      linear: whether samples are amounts of light, which pictures are not.
    """

    samples: np.ndarray
    top: int = 255
    palette: np.ndarray | None = None
    lossy: bool = False
    linear: bool = False

    @property
    def is_float(self) -> bool:
        """Whether samples are floats rather than integers."""
        return self.samples.dtype.kind == "f"

    def shown(self) -> Decoded:
        """The same image with colours in place of indices."""
        if self.palette is None:
            return self
        return dataclasses.replace(self, samples=self.palette[self.samples], top=255, palette=None)

    def scaled(self, top: int, dtype: type) -> np.ndarray:
        """The samples on another scale, from 0 to `top`, rounded."""
        if self.top == top and not self.is_float:
            return self.samples.astype(dtype)
        numbers = self.samples.astype(np.float64)  # changed in place, as an image may be large
        numbers *= top / self.top
        return np.rint(numbers, out=numbers).astype(dtype)

    def colors(self) -> np.ndarray:
        """The image in colours of 8 bits, uint8 [H, W, 3]; floats are taken to be in [0, 1]."""
        pixels = self.shown().scaled(255, np.uint8)
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, -1)

    def fits_8_bits(self) -> bool:
        """Whether `colors` are exactly those of the image, of integers."""
        shown = self.shown()
        return shown.top == 255 or not (shown.samples.astype(np.int64) * 255 % shown.top).any()


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """Keeps from the user what decoders print, in Python and C, besides raising errors; one thread at a time."""
    with _MUTING, contextlib.redirect_stdout(io.StringIO()), open(os.devnull, "wb") as nothing:
        kept = {stream: os.dup(stream) for stream in (1, 2)}
        try:
            for stream in kept:
                os.dup2(nothing.fileno(), stream)
            yield
        finally:
            for stream, copy in kept.items():
                os.dup2(copy, stream)
                os.close(copy)


def decode(data: bytes) -> Decoded:
    """Decodes an image file. Raises whatever a decoder does, of any type, where it is damaged or not known."""
    with _muted(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about metadata
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(*metadata.png(data))
        if data.startswith(b"\xff\xd8"):
            clean, orientation = metadata.jpeg(data)
            return _turned(_pillow(clean), orientation)
        if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff(data)
        if data.startswith(b"\x76\x2f\x31\x01"):
            return _exr(data)
        return _pillow(data)


def _check_size(data: bytes, shape: Sequence[int], bits: int = 8) -> None:
    """Headers may claim any size: nothing is decoded that would not fit the memory, or that the file cannot hold."""
    most, held = _MOST_PIXELS if bits <= 8 else _MOST_PIXELS // 2, _ANY_PIXELS + _PIXELS_PER_BYTE * len(data)
    if not 0 < math.prod(shape) <= min(most, held):
        limit = f"{held} are read of {len(data)} bytes" if held < most else f"{most} of its type are read"
        raise ValueError(f"its header says {' x '.join(map(str, shape))} pixels, and at most {limit}")


def _check_held(page: tifffile.TiffPage, data: bytes) -> None:
    """Raises ValueError for a TIFF without some of its strips or tiles, which would become zeros."""
    if 0 in page.databytecounts and not page.is_contiguous:
        raise ValueError("some of its strips or tiles are not in it")
    held = min(sum(page.databytecounts), len(data))
    if page.compression in _TIFF_FAX and held * 8 < page.imagelength:  # each row has at least one bit
        raise ValueError(f"its {held} bytes cannot hold the {page.imagelength} rows that its header says")


def _turned(image: Decoded, orientation: int) -> Decoded:
    return dataclasses.replace(image, samples=metadata.turn(image.samples, orientation))


def _opaque(samples: np.ndarray) -> np.ndarray:
    """Samples [H, W, C] without what stands beside grey or colours; [H, W] of one channel."""
    if samples.ndim == 2:
        return samples
    if samples.ndim != 3 or samples.shape[-1] > _MOST_CHANNELS:
        raise ValueError(f"its samples have shape {list(samples.shape)}; at most {_MOST_CHANNELS} channels are read")
    return samples[..., :3] if samples.shape[-1] >= 3 else samples[..., 0]


def _png(data: bytes, orientation: int) -> Decoded:
    bits, kind = data[24], data[25]  # kinds of colour: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha
    if bits == 16 and kind != 0:
        _check_size(data, struct.unpack_from(">II", data, 16), bits)
        return _turned(Decoded(_opaque(imagecodecs.png_decode(data)), 65535), orientation)
    return _turned(_pillow(data, bits if kind == 0 else 8), orientation)


def _pillow(data: bytes, bits: int = 8) -> Decoded:
    """What Pillow reads; `bits` of greyscale below 8 are scaled up by it, and down again here."""
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError("its content is none of a known format") from error
    with image:
        deep = 8 * int(ImageMode.getmode(image.mode).typestr[2])
        if image.format == "JPEG2000":
            deep = _jpeg_2000_bits(data)
        _check_size(data, image.size, deep)
        if image.format in ("JPEG", "MPO") and math.prod(image.size) > _PIXELS_PER_BYTE_OF_JPEG * len(data):
            raise ValueError(f"its {len(data)} bytes cannot hold the {image.size} pixels that its header says")
        if image.format == "PPM" and image.mode != "1" and image.tile[0][0] in ("ppm", "ppm_plain"):
            return _pnm(data, image)
        if image.format == "JPEG2000" and deep > 8:
            return Decoded(_opaque(imagecodecs.jpeg2k_decode(data)), 2**deep - 1)
        found = opened(image, bits)
        return dataclasses.replace(found, lossy=found.lossy or (image.format == "WEBP" and b"VP8L" not in data))


def opened(image: Image.Image, bits: int = 8) -> Decoded:
    """What a file of an image that Pillow holds is read as. Of greyscale with fewer than 8 `bits` the file says that.

    Raises ValueError, and whatever Pillow does where the image's file is damaged.
    """
    image.load()
    orientation = metadata.exif_orientation(image.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    lossy = image.format in ("JPEG", "MPO", "AVIF")
    return _turned(dataclasses.replace(_samples(image, bits), lossy=lossy), orientation)


def _samples(image: Image.Image, bits: int) -> Decoded:
    """The samples of an image that Pillow has read."""
    mode = image.mode
    if mode in ("P", "PA"):
        colors = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        return Decoded(_opaque(np.array(image)), 255, np.pad(colors, ((0, 256 - len(colors)), (0, 0))))
    if mode == "1":
        return Decoded(np.array(image).astype(np.uint8), 1)
    if mode in ("L", "LA", "La"):
        top = 2**bits - 1
        return Decoded(_opaque(np.array(image)) // (255 // top), top)
    if mode.startswith("I"):
        numbers = np.array(image)
        if not 0 <= numbers.min() <= numbers.max() <= 65535:
            raise ValueError(f"its numbers are {numbers.min()} to {numbers.max()}; integers of 32 bits have no range")
        return Decoded(numbers.astype(np.uint16), 65535)
    if mode == "F":
        return Decoded(np.array(image), 1)
    return Decoded(np.array(image.convert("RGB")))


def _pnm(data: bytes, image: ImageFile.ImageFile) -> Decoded:
    """PGM and PPM with another largest number than 255, to which Pillow would scale them."""
    header: Any = image.tile[0]  # as Pillow has read it
    codec, _, offset, (mode, top) = header
    shape = (image.height, image.width, 3) if mode == "RGB" else (image.height, image.width)
    if codec == "ppm":
        numbers = np.frombuffer(data, ">u2" if top > 255 else np.uint8, math.prod(shape), offset)
    else:
        numbers = np.array(data[offset:].split()[: math.prod(shape)], np.int64)
    if not 0 <= numbers.min() <= numbers.max() <= top:
        raise ValueError(f"its numbers are {numbers.min()} to {numbers.max()}, and its header says 0 to {top}")
    return Decoded(numbers.reshape(shape).astype(np.min_scalar_type(top)), top)


def _jpeg_2000_bits(data: bytes) -> int:
    """Bits per channel, from the header of sizes."""
    return (data[data.index(b"\xff\x51") + 40] & 0x7F) + 1


def _tiff(data: bytes) -> Decoded:
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        photometric = getattr(page.photometric, "name", page.photometric)
        if photometric not in _TIFF_PLAIN or page.compression in _TIFF_JPEG:
            return dataclasses.replace(_pillow(data), lossy=page.compression in _TIFF_JPEG)
        # Some writers make a page of every row of an image of floats: a page of three or four columns is one.
        rows = page.ndim == 2 and page.shape[-1] in (3, 4) and file.series[0].ndim == 3
        whole = file.series[0] if rows else page
        if page.samplesperpixel > _MOST_CHANNELS:
            raise ValueError(f"it has {page.samplesperpixel} channels; at most {_MOST_CHANNELS} are read")
        grid = whole.shape[:-1] if rows else [n for n, axis in zip(whole.shape, whole.axes, strict=True) if axis != "S"]
        _check_size(data, grid, page.bitspersample)
        _check_held(page, data)
        samples = whole.asarray(maxworkers=1)
        samples = _opaque(np.moveaxis(samples, 0, -1) if whole.axes.startswith("S") else samples)
        return _turned(_tiff_samples(samples, page, photometric), metadata.orientation(page.tags.valueof(274)))


def _tiff_samples(samples: np.ndarray, page: tifffile.TiffPage, photometric: str) -> Decoded:
    if samples.dtype.kind == "f":
        return Decoded(samples.astype(np.promote_types(samples.dtype, np.float32)), 1)
    if samples.dtype.kind not in "bui" or samples.min() < 0:
        raise ValueError(f"its numbers are {samples.dtype}, negative or complex ones among them")
    top = 2 ** (page.bitspersample - (samples.dtype.kind == "i")) - 1
    samples = samples.astype(np.min_scalar_type(top))
    if photometric == "MINISWHITE":
        return Decoded(top - samples, top)
    if photometric == "PALETTE":
        colors = np.asarray(page.colormap).T
        return Decoded(samples, top, (colors >> (8 if colors.max() > 255 else 0)).astype(np.uint8))
    return Decoded(samples, top)


def _exr(data: bytes) -> Decoded:
    parts = OpenEXR.File(io.BytesIO(data), header_only=True).parts
    header, sizes = parts[0].header, [_exr_size(part.header) for part in parts]
    if not all(np.array_equal(a, b) for a, b in zip(header["dataWindow"], header["displayWindow"], strict=True)):
        raise ValueError("it holds a part of its picture only: its data window is not its display window")
    _check_size(data, sizes[0], 32)
    numbers = sum(math.prod(size) * len(part.header["channels"]) for size, part in zip(sizes, parts, strict=True))
    if numbers > (most := _MOST_CHANNELS * _MOST_PIXELS // 2):  # all are decoded, whatever is needed
        raise ValueError(f"its parts and channels have {numbers} numbers, and at most {most} are read")
    names = _exr_names([channel.name for channel in header["channels"]])
    channels = OpenEXR.File(io.BytesIO(data), separate_channels=True).channels()
    return _exr_samples(*(channels[name].pixels for name in names))


def _exr_size(header: Mapping[str, Any]) -> tuple[int, int]:
    (left, top), (right, bottom) = (corner.tolist() for corner in header["dataWindow"])
    return right - left + 1, bottom - top + 1


def _exr_names(channels: Sequence[str]) -> list[str]:
    """Which of the channels to read: the one that there is, or the three of colours or vectors; alpha is left out."""
    known = [name for name in channels if name.rpartition(".")[2] not in ("A", "AR", "AG", "AB")]
    layers = {name[:-1] for name in known}  # and its dot, if it has a name
    for names in ([layer + axis for axis in axes] for layer in layers for axes in ("RGB", "XYZ")):
        if set(names) == set(known):
            return names
    if len(known) != 1:
        raise ValueError(f"its channels are {', '.join(known)}; allowed: R, G and B, or X, Y and Z, or a single one")
    return known


def _exr_samples(*channels: np.ndarray) -> Decoded:
    samples = np.stack(channels, -1) if len(channels) > 1 else channels[0]
    if samples.dtype.kind == "f":
        return Decoded(samples.astype(np.float32), 1, linear=True)
    return Decoded(samples, 2**32 - 1, linear=True)
