"""What image files carry beside their pixels: which way up they are is read, and the rest kept from decoders.

Cameras and editors write odd metadata, which decoders stumble over although the pixels are sound.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_ORIENTATION = 0x0112  # its tag in EXIF and TIFF
_INTEGERS = {3: "H", 4: "I", 8: "h", 9: "i"}  # types of tags
_PNG_KEPT = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_START = 8  # bytes before the first chunk
_JPEG_DROPPED = (*range(0xE1, 0xEE), 0xEF, 0xFE)  # APP1 to APP13, APP15 and comments; APP0 and APP14 tell the colours
_JPEG_SCAN = 0xDA  # the header that pixels follow


def png(data: bytes) -> tuple[bytes, int]:
    """A PNG file with only the chunks that pixels depend on, and its orientation. Transparency is dropped, too.

    Raises ValueError for such a chunk whose checksum is wrong.
    """
    kept, exif, at = [data[:_PNG_START]], b"", _PNG_START
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        chunk, at = data[at : at + 12 + length], at + 12 + length
        sound = zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
        if kind in _PNG_KEPT:
            if not sound:  # of which some decoders only warn
                raise ValueError(f"its chunk {kind.decode()} is damaged")
            kept.append(chunk)
        elif kind == b"eXIf" and sound:
            exif = chunk[8:-4]
        if kind == b"IEND":
            break
    return b"".join(kept), exif_orientation(exif)


def jpeg(data: bytes) -> tuple[bytes, int]:
    """A JPEG file without the segments that pixels do not depend on, and its orientation."""
    kept, exif, at = [data[:2]], b"", 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != _JPEG_SCAN:
        if data[at + 1] == 0xFF:  # filling
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] not in _JPEG_DROPPED:
            kept.append(data[at:end])
        elif data[at + 4 : at + 10] == b"Exif\0\0" and not exif:
            exif = data[at + 10 : end]
        at = end
    return b"".join([*kept, data[at:]]), exif_orientation(exif)


def exif_orientation(exif: bytes) -> int:
    """The orientation 1 to 8 that a block of EXIF says, or 1, which is upright, where it says none.

    No other tag is read, so that none of them matters.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * entries, 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", exif, at)
            if tag == _ORIENTATION and kind in _INTEGERS and count == 1:
                return orientation(struct.unpack_from(order + _INTEGERS[kind], exif, at + 8)[0])
    except struct.error:  # it ends before
        pass
    return 1


def orientation(value: object) -> int:
    """A value of the tag of orientations, or 1 for one that is not allowed."""
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] as stored -> upright: mirrored, turned or both, as the orientation says."""
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    return pixels.swapaxes(0, 1) if orientation > 4 else pixels
