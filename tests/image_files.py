"""Writes image files byte by byte, in every layout and depth that their formats have: a truth for what reads them."""

from __future__ import annotations

import struct
import zlib

import numpy as np

COLOR_TYPES = {"grey": 0, "rgb": 2, "indexed": 3, "grey+alpha": 4, "rgba": 6}


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _rows(samples: np.ndarray, bits: int) -> list[bytes]:
    """Rows of samples [H, W(, C)] as PNG and TIFF pack them, big end first."""
    flat = samples.reshape(len(samples), -1)
    if bits < 8:
        digits = (flat[..., None] >> np.arange(bits)[::-1]) & 1
        return [np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in digits]
    return [row.astype(f">u{bits // 8}").tobytes() for row in flat]


def png(
    samples: np.ndarray, bits: int, layout: str, palette=None, transparent: bytes = b"", extra: bytes = b""
) -> bytes:
    """A PNG file; `transparent` is the content of tRNS, `extra` are chunks that follow the header."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, COLOR_TYPES[layout], 0, 0, 0)
    colors = b"" if palette is None else chunk(b"PLTE", np.asarray(palette, np.uint8).tobytes())
    clear = chunk(b"tRNS", transparent) if transparent else b""
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in _rows(samples, bits))))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + colors + clear + data + chunk(b"IEND", b"")


def tiff(
    samples: np.ndarray, bits: int, photometric: int = 1, order: str = "<", planar: bool = False, **tags: int
) -> bytes:
    """A TIFF file of one strip per plane: unsigned integers of `bits`, or the array's own floats or signed integers.

    `photometric` is 0 for white at zero, 1 for black at zero, 2 for RGB and 3 for indices with a palette, `tags`
    has numbers of one value by names like `t274`.
    """
    samples = samples if samples.ndim == 3 else samples[..., None]
    height, width, channels = samples.shape
    planes = np.moveaxis(samples, -1, 0) if planar else samples[None]
    kind = {"u": 1, "i": 2, "f": 3, "c": 6}[samples.dtype.kind]
    if bits < 8:
        strips = [b"".join(_rows(plane, bits)) for plane in planes]
    else:
        strips = [plane.astype(f"{order}{samples.dtype.kind}{bits // 8}").tobytes() for plane in planes]
    shorts = {256: [width], 257: [height], 258: [bits] * channels, 259: [1], 262: [photometric], 277: [channels]}
    shorts |= {278: [height], 284: [1 + planar], 339: [kind] * channels}
    shorts |= {int(name[1:]): [value] for name, value in tags.items() if name != "palette"}
    if channels - (3 if photometric == 2 else 1) > 0:
        shorts[338] = [2] * (channels - (3 if photometric == 2 else 1))
    if photometric == 3:
        colors = np.zeros((2**bits, 3), np.uint16)
        colors[: len(tags["palette"])] = np.asarray(tags["palette"], np.uint16) * 257
        shorts[320] = colors.T.reshape(-1).tolist()
    entries = {tag: ("H", values) for tag, values in shorts.items()} | {
        273: ("I", [0] * len(strips)),
        279: ("I", list(map(len, strips))),
    }
    start = 8 + 2 + 12 * len(entries) + 4
    body, table = b"".join(strips), b""
    entries[273] = ("I", [start + sum(map(len, strips[:i])) for i in range(len(strips))])
    for tag, (letter, values) in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            at, body = start + len(body), body + packed
            packed = struct.pack(f"{order}I", at)
        table += struct.pack(f"{order}HHI", tag, 3 if letter == "H" else 4, len(values)) + packed.ljust(4, b"\0")
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return magic + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + body


def exr(channels: dict[str, np.ndarray], window=None) -> bytes:
    """An OpenEXR file of scan lines without compression: channels of uint32, float16 or float32."""
    height, width = next(iter(channels.values())).shape
    kinds = {"uint32": 0, "float16": 1, "float32": 2}
    names = sorted(channels)

    def attribute(name: str, kind: str, data: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(data)) + data

    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", kinds[str(channels[name].dtype)], 0, 1, 1) for name in names
    )
    box = struct.pack("<4i", 0, 0, width - 1, height - 1)
    header = struct.pack("<ii", 20000630, 2) + attribute("channels", "chlist", listed + b"\0")
    header += attribute("compression", "compression", b"\0") + attribute("dataWindow", "box2i", box)
    header += attribute("displayWindow", "box2i", struct.pack("<4i", *window) if window else box)
    header += attribute("lineOrder", "lineOrder", b"\0") + attribute("pixelAspectRatio", "float", struct.pack("<f", 1))
    header += attribute("screenWindowCenter", "v2f", struct.pack("<ff", 0, 0))
    header += attribute("screenWindowWidth", "float", struct.pack("<f", 1)) + b"\0"
    lines = [b"".join(channels[name][y].tobytes() for name in names) for y in range(height)]
    first = len(header) + 8 * height
    offsets = [first + sum(8 + len(line) for line in lines[:y]) for y in range(height)]
    body = b"".join(struct.pack("<ii", y, len(line)) + line for y, line in enumerate(lines))
    return header + struct.pack(f"<{height}Q", *offsets) + body


def exif(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """A block of EXIF of entries (tag, type, count, bytes of the value or, where they are more than four, of it)."""
    start, body, table = 8 + 2 + 12 * len(entries) + 4, b"", b""
    for tag, kind, count, value in entries:
        if len(value) > 4:
            body, value = body + value, struct.pack(f"{order}I", start + len(body))
        table += struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    magic = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return magic + struct.pack(f"{order}H", len(entries)) + table + bytes(4) + body


def jpeg_with(data: bytes, marker: int, content: bytes) -> bytes:
    """A JPEG file with one more segment after its start."""
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]
