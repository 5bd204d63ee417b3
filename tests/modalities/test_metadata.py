"""Images come upright and with the right pixels, whatever else is in their files."""

import io
import struct
import zlib

import image_files
import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from mmgen_jax.modalities.decoding import decode

RNG = np.random.default_rng(2)
PIXELS = RNG.integers(0, 256, (24, 40, 3), dtype=np.uint8)
# Tags that cameras and editors write: descriptions, resolutions, dates, pointers to further blocks, and one unknown.
TAGS = (0x0100, 0x0103, 0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x0213, 0x8298,
        0x8769, 0x8825, 0x9000, 0x9286, 0xA005, 0xC4A5)  # fmt: skip
TYPES = range(1, 14)
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def saved(format, **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, format, **options)
    return file.getvalue()


JPEG, PNG, WEBP, TIFF = saved("JPEG"), saved("PNG"), saved("WEBP", lossless=True), saved("TIFF")


def orientation(value):
    return (0x0112, 3, 1, struct.pack("<H", value))


def with_exif(kind, exif):
    if kind == "jpeg":
        return image_files.jpeg_with(JPEG, 0xE1, b"Exif\0\0" + exif)
    return PNG[:33] + image_files.chunk(b"eXIf", exif) + PNG[33:]


def upright(data, value):
    """The pixels turned by Pillow, which says what an orientation means."""
    with Image.open(io.BytesIO(data)) as image:
        plain = Image.fromarray(np.array(image))
    plain.getexif()[0x0112] = value
    return np.array(ImageOps.exif_transpose(plain))


@pytest.mark.parametrize("kind, plain", [("jpeg", JPEG), ("png", PNG)])
@pytest.mark.parametrize("value", range(1, 9))
def test_odd_tags_beside_the_orientation_do_not_matter(kind, plain, value):
    """19 tags of 13 types, half of them with values that reach beyond the block."""
    truth = upright(plain, value)
    for tag in TAGS:
        for type_ in TYPES:
            for count in (1, 3):
                entries = sorted([orientation(value), (tag, type_, count, bytes(range(7, 7 + WIDTHS[type_] * count)))])
                exif = image_files.exif(*entries)
                for block in (exif, exif[:-1], exif + b"rest"):
                    found = decode(with_exif(kind, block)).samples
                    np.testing.assert_array_equal(found, truth, err_msg=f"tag {tag:#x} type {type_} count {count}")


@pytest.mark.parametrize("kind, plain", [("jpeg", JPEG), ("png", PNG)])
def test_orientations_that_are_none_are_upright(kind, plain):
    truth = upright(plain, 1)
    entries = [(0x0112, t, 1, bytes([v] * WIDTHS[t])) for t in TYPES for v in (0, 9, 255)]
    entries += [(0x0112, 3, 2, b"\6\0\6\0"), (0x0112, 2, 2, b"6\0"), (0x0112, 7, 1, b"\6"), (0x0111, 3, 1, b"\6\0")]
    blocks = [image_files.exif(entry) for entry in entries]
    blocks += [b"", b"II*", b"nothing", b"MM\0*\0\0\0\xff", image_files.exif(orientation(6))[:14]]
    for block in blocks:
        np.testing.assert_array_equal(decode(with_exif(kind, block)).samples, truth, err_msg=repr(block))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_mutated_blocks_never_fail(kind):
    exif = bytearray(
        image_files.exif(*sorted([orientation(6), (0x010F, 2, 9, b"camera ab"), (0x8769, 4, 1, b"\x40\0\0\0")]))
    )
    shapes = {PIXELS.shape, (PIXELS.shape[1], PIXELS.shape[0], 3)}
    for _ in range(2000):
        block = bytearray(exif)
        for at in RNG.integers(0, len(block), RNG.integers(1, 5)):
            block[at] = RNG.integers(256)
        assert decode(with_exif(kind, bytes(block))).samples.shape in shapes


@pytest.mark.parametrize("value", range(1, 9))
def test_webp_and_tiff_are_turned_too(value):
    exif = Image.Exif()
    exif[0x0112] = value
    truth = upright(PNG, value)
    np.testing.assert_array_equal(decode(saved("WEBP", lossless=True, exif=exif)).samples, truth)
    np.testing.assert_array_equal(decode(image_files.tiff(PIXELS, 8, 2, t274=value)).samples, truth)
    np.testing.assert_array_equal(decode(image_files.tiff(PIXELS, 8, 2, ">", t274=value)).samples, truth)


BOMB = zlib.compress(bytes(2**26))
CHUNKS = {
    "zTXt that becomes 64 MB": image_files.chunk(b"zTXt", b"a\0\0" + BOMB),
    "iTXt that becomes 64 MB": image_files.chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB),
    "iCCP that becomes 64 MB": image_files.chunk(b"iCCP", b"a\0\0" + BOMB),
    "iCCP of nothing": image_files.chunk(b"iCCP", b""),
    "zTXt of nothing": image_files.chunk(b"zTXt", b""),
    "short pHYs": image_files.chunk(b"pHYs", b"\0"),
    "short sRGB": image_files.chunk(b"sRGB", b""),
    "short gAMA": image_files.chunk(b"gAMA", b"\0"),
    "odd gAMA": image_files.chunk(b"gAMA", b"\0\0\0\1"),
    "short cHRM": image_files.chunk(b"cHRM", b"\0"),
    "short acTL": image_files.chunk(b"acTL", b""),
    "two acTL": 2 * image_files.chunk(b"acTL", struct.pack(">II", 2, 0)),
    "fcTL out of order": image_files.chunk(b"fcTL", struct.pack(">IIIIIHHBB", 9, 40, 24, 0, 0, 1, 1, 0, 0)),
    "wrong checksum of tEXt": image_files.chunk(b"tEXt", b"a\0b")[:-1] + b"?",
    "wrong checksum of eXIf": image_files.chunk(b"eXIf", image_files.exif(orientation(6)))[:-1] + b"?",
    "unknown chunk": image_files.chunk(b"abCd", bytes(100)),
    "tRNS of nothing": image_files.chunk(b"tRNS", b""),
    "short tIME": image_files.chunk(b"tIME", b"\0"),
    "sBIT of nothing": image_files.chunk(b"sBIT", b""),
}


@pytest.mark.parametrize("name", CHUNKS)
def test_odd_chunks_of_png_do_not_matter(name):
    np.testing.assert_array_equal(decode(PNG[:33] + CHUNKS[name] + PNG[33:]).samples, PIXELS)


def test_much_text_and_a_trailer_do_not_matter():
    info = PngImagePlugin.PngInfo()
    for i in range(100):
        info.add_text(f"key{i}", "x" * 2**20, zip=True)
    np.testing.assert_array_equal(decode(saved("PNG", pnginfo=info) + b"trailer" * 99).samples, PIXELS)


SEGMENTS = {
    "MPF of nothing": (0xE2, b"MPF\0"),
    "MPF of many images": (0xE2, b"MPF\0II*\0\x08\0\0\0\1\0\1\xb0\4\0\1\0\0\0\xff\0\0\0\0\0\0\0"),
    "colour profile of nothing": (0xE2, b"ICC_PROFILE\0"),
    "colour profile of part 9 of 2": (0xE2, b"ICC_PROFILE\0\x09\2abc"),
    "Photoshop": (0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x10\0"),
    "XMP": (0xE1, b"http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation='"),
    "comment of bytes": (0xFE, bytes(range(256))),
    "EXIF of nothing": (0xE1, b"Exif\0\0"),
    "EXIF of letters": (0xE1, b"Exif\0\0" + b"x" * 500),
    "APP15": (0xEF, bytes(9)),
}


@pytest.mark.parametrize("name", SEGMENTS)
def test_odd_segments_of_jpeg_do_not_matter(name):
    with Image.open(io.BytesIO(JPEG)) as image:
        truth = np.array(image)
    data = image_files.jpeg_with(JPEG, *SEGMENTS[name])
    np.testing.assert_array_equal(decode(data).samples, truth)
    np.testing.assert_array_equal(decode(data[:2] + b"\xff" * 3 + data[2:]).samples, truth)  # filling


def test_odd_tags_of_tiff_do_not_matter():
    for tag in (282, 305, 306, 315, 34665, 34675, 33922, 42113, 700, 65000):
        for order in "<>":
            data = image_files.tiff(PIXELS, 8, 2, order, **{f"t{tag}": 60000})
            np.testing.assert_array_equal(decode(data).samples, PIXELS, err_msg=str(tag))
