"""Image files of every depth and layout have the right values, as tiles and as conditions alike."""

import io
import struct
import tempfile
from collections.abc import Callable

import image_files
import imagecodecs
import numpy as np
import OpenEXR
import pytest
import tifffile
from PIL import Image, ImageFile

from mmgen_jax.modalities import decoding
from mmgen_jax.modalities.decoding import SUFFIXES, decode
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

SIZE = 12
CHANNELS = {"grey": 1, "grey+alpha": 2, "rgb": 3, "rgba": 4, "indexed": 1}
RNG = np.random.default_rng(5)


def tile(m, path):
    return MODALITIES[m].read(path)


def condition(m, path, facts=None):
    return MODALITIES[m].condition(str(path), SIZE, facts or Facts(PALETTE))[0]


def with_alpha(samples, top, layout):
    """Samples with the channels that the layout has; alpha is random, and hides parts."""
    if not layout.endswith(("alpha", "a")):
        return samples
    alpha = RNG.integers(0, top + 1, (*samples.shape[:2], 1))
    return np.concatenate([samples.reshape(*alpha.shape[:2], -1), alpha], -1).astype(samples.dtype)


def png(samples, bits, layout, **more):
    return image_files.png(with_alpha(samples, 2**bits - 1, layout), bits, layout, **more)


def tiff(samples, bits, layout, order="<", **more):
    photometric = {"grey": 1, "grey+alpha": 1, "rgb": 2, "rgba": 2, "indexed": 3}[layout]
    return image_files.tiff(with_alpha(samples, 2**bits - 1, layout), bits, photometric, order, **more)


def big_tiff(samples, bits, layout, **more):
    return tiff(samples, bits, layout, order=">", **more)


FILES = [
    *((png, layout, bits) for layout in CHANNELS for bits in (1, 2, 4, 8, 16) if layout == "grey" and bits <= 16),
    *((png, layout, bits) for layout in ("grey+alpha", "rgb", "rgba") for bits in (8, 16)),
    *((png, "indexed", bits) for bits in (1, 2, 4, 8)),
    *((tiff, "grey", bits) for bits in (1, 2, 4, 8, 16, 32)),
    *(
        (write, layout, bits)
        for write in (tiff, big_tiff)
        for layout in ("grey+alpha", "rgb", "rgba")
        for bits in (8, 16)
    ),
    *((big_tiff, "grey", bits) for bits in (16, 32)),
    *((tiff, "indexed", bits) for bits in (1, 2, 4, 8)),
]
NAMES = [f"{write.__name__}-{layout}-{bits}" for write, layout, bits in FILES]


def samples_of(layout, bits, grey):
    """(what is written, the true numbers, their top, what the writer needs besides)."""
    top = 2**bits - 1
    dtype = np.min_scalar_type(top)
    if layout == "indexed":
        colors = RNG.integers(0, 256, (min(2**bits, 200), 3)).astype(np.uint8)
        colors = colors[:, :1].repeat(3, 1) if grey else colors
        ids = RNG.integers(0, len(colors), (SIZE, SIZE)).astype(np.uint8)
        return ids, colors[ids], 255, {"palette": colors}
    numbers = RNG.integers(0, top + 1, (SIZE, SIZE), dtype=dtype)
    if CHANNELS[layout] < 3:
        return numbers, numbers, top, {}
    if grey:
        numbers = numbers[..., None].repeat(3, -1)
    else:
        numbers = RNG.integers(0, top + 1, (SIZE, SIZE, 3), dtype=dtype)
    return numbers, numbers, top, {}


def rounded(numbers, top, new):
    """numbers / top * new, rounded, by integers alone."""
    return ((2 * numbers.astype(object) * new + top) // (2 * top)).astype(np.int64)


@pytest.mark.parametrize("write, layout, bits", FILES, ids=NAMES)
def test_every_depth_and_layout(tmp_path, write, layout, bits):
    path = tmp_path / "a.img"
    for grey in (False, True):
        written, numbers, top, more = samples_of(layout, bits, grey)
        path.write_bytes(write(written, bits, layout, **more))
        three = numbers.ndim == 3
        colors = rounded(numbers if three else numbers[..., None].repeat(3, -1), top, 255)
        for read in (tile, condition):
            found = read("rgb", path)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, colors)
        if three:
            np.testing.assert_array_equal(tile("normal", path), colors)
            vectors = 2 * numbers.astype(np.float64) / top - 1
            lengths = np.linalg.norm(vectors, axis=-1)
            normals = np.abs(lengths - 1) < 0.5  # others take the nearest one, see `holes`
            if normals.any():
                expected = vectors[normals] / lengths[normals][:, None]
                np.testing.assert_allclose(condition("normal", path)[normals], expected, atol=1e-5)
            else:
                with pytest.raises(UsageError, match="has only vectors of length zero"):
                    condition("normal", path)
        else:
            for read in (tile, condition):
                with pytest.raises(UsageError, match="is grey; allowed: three channels: x, y and z"):
                    read("normal", path)
        if three and not grey:
            for read in (tile, condition):
                with pytest.raises(UsageError, match="has colours; allowed: grey, of any depth"):
                    read("depth", path)
        else:
            depth = numbers[..., 0] if three else numbers
            np.testing.assert_array_equal(tile("depth", path)[..., 0], rounded(depth, top, 65535))
            np.testing.assert_allclose(condition("depth", path), depth / top, atol=1e-7)


@pytest.mark.parametrize("write, layout, bits", FILES, ids=NAMES)
def test_masks_mean_their_colours_or_ids(tmp_path, write, layout, bits):
    path, top = tmp_path / "a.img", 2**bits - 1
    ids = RNG.integers(0, min(len(PALETTE), top + 1), (SIZE, SIZE)).astype(np.uint8)
    if layout == "indexed":  # the palette's colours in another order: colours count, not the numbers behind them
        order = RNG.permutation(len(PALETTE))[: top + 1]
        ids = order[ids % len(order)]
        numbers = np.argsort(order)[ids] if len(order) == 4 else np.searchsorted(np.sort(order), ids)
        palette = PALETTE[order] if len(order) == 4 else PALETTE[np.sort(order)]
        path.write_bytes(write(numbers.astype(np.uint8), bits, layout, palette=palette))
        colors = PALETTE[ids]
    elif CHANNELS[layout] >= 3:
        colors = PALETTE[ids]
        written = colors.astype(np.min_scalar_type(top)) * np.min_scalar_type(top).type(top // 255)
        path.write_bytes(write(written, bits, layout))
    else:
        path.write_bytes(write(ids.astype(np.min_scalar_type(top)), bits, layout))
        np.testing.assert_array_equal(condition("mask", path), ids)
        if bits > 4:
            for facts in (Facts(), None):
                with pytest.raises(UsageError, match="look alike, as region ids do|that 8 bits cannot tell apart"):
                    tile("mask", path) if facts is None else condition("mask", path, facts)
            return
        colors = np.repeat(ids[..., None] * np.uint8(255 // top), 3, -1)
        np.testing.assert_array_equal(tile("mask", path), colors)
        np.testing.assert_array_equal(condition("mask", path, Facts()), colors)
        return
    np.testing.assert_array_equal(tile("mask", path), colors)
    np.testing.assert_array_equal(condition("mask", path), ids)
    np.testing.assert_array_equal(condition("mask", path, Facts()), colors)


@pytest.mark.parametrize("bits", [8, 16])
def test_levels_of_grey_are_regions_where_they_can_be_told_apart(tmp_path, bits):
    levels = RNG.choice([0, 128, 255], (SIZE, SIZE)).astype(np.uint8)
    written = levels if bits == 8 else levels.astype(np.uint16) * 257
    (tmp_path / "a.png").write_bytes(png(written, bits, "grey"))
    np.testing.assert_array_equal(tile("mask", tmp_path / "a.png"), levels[..., None].repeat(3, -1))
    two = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
    (tmp_path / "b.png").write_bytes(png(np.where(written, written.max(), 0).astype(written.dtype), bits, "grey"))
    np.testing.assert_array_equal(condition("mask", tmp_path / "b.png", Facts(two)), levels > 0)


@pytest.mark.parametrize("layout, bits, clear", [
    ("grey", 1, b"\0\1"), ("grey", 2, b"\0\1"), ("grey", 4, b"\0\1"), ("grey", 8, b"\0\1"), ("grey", 16, b"\1\1"),
    ("rgb", 8, b"\0\1\0\1\0\1"), ("rgb", 16, b"\1\1\1\1\1\1"), ("indexed", 2, b"\0\x80"), ("indexed", 8, b"\0" * 9),
])  # fmt: skip
def test_transparency_does_not_matter(tmp_path, layout, bits, clear):
    """What a PNG file says of one transparent colour, or of each in a palette, changes no colour."""
    written, _, _, more = samples_of(layout, bits, grey=False)
    (tmp_path / "a.png").write_bytes(image_files.png(written, bits, layout, **more))
    (tmp_path / "b.png").write_bytes(image_files.png(written, bits, layout, transparent=clear, **more))
    for read in (tile, condition):
        np.testing.assert_array_equal(read("rgb", tmp_path / "a.png"), read("rgb", tmp_path / "b.png"))


FLOATS = [
    ("tiff", np.float16), ("tiff", np.float32), ("tiff", np.float64), ("big tiff", np.float32), ("planar", np.float32),
    ("exr", np.float16), ("exr", np.float32),
]  # fmt: skip


def float_file(kind, numbers):
    if kind == "exr":
        return image_files.exr(
            {"Z": numbers} if numbers.ndim == 2 else dict(zip("RGB", np.moveaxis(numbers, -1, 0), strict=True))
        )
    photometric = 2 if numbers.ndim == 3 else 1
    order, planar = ">" if kind == "big tiff" else "<", kind == "planar"
    return image_files.tiff(numbers, numbers.dtype.itemsize * 8, photometric, order, planar)


@pytest.mark.parametrize("kind, dtype", FLOATS)
def test_floats(tmp_path, kind, dtype):
    path = tmp_path / "a.img"
    depth = RNG.random((SIZE, SIZE)).astype(dtype)
    path.write_bytes(float_file(kind, depth))
    np.testing.assert_array_equal(tile("depth", path)[..., 0], np.rint(depth.astype(np.float64) * 65535))
    np.testing.assert_allclose(condition("depth", path), depth.astype(np.float64), atol=1e-7)
    vectors = RNG.normal(size=(SIZE, SIZE, 3))
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(dtype)
    path.write_bytes(float_file(kind, vectors))
    assert np.abs(tile("normal", path) - (vectors.astype(np.float64) + 1) * 127.5).max() < 0.6
    np.testing.assert_allclose(condition("normal", path), vectors.astype(np.float64), atol=2e-3)
    colors = RNG.random((SIZE, SIZE, 3)).astype(dtype)
    path.write_bytes(float_file(kind, colors))
    for read in (tile, condition):
        if kind == "exr":
            with pytest.raises(UsageError, match=r"holds amounts of light \(EXR\); allowed: a picture to look at"):
                read("rgb", path)
        else:
            np.testing.assert_array_equal(read("rgb", path), np.rint(colors.astype(np.float64) * 255))
        with pytest.raises(UsageError, match="has numbers that are floats|has type float"):
            read("mask", path)
    for wrong, message in ((3 * depth, "has values from"), (depth + np.nan, "not finite")):
        path.write_bytes(float_file(kind, wrong.astype(dtype)))
        for read in (tile, condition):
            with pytest.raises(UsageError, match=message):
                read("depth", path)


@pytest.mark.parametrize(
    "names", [("Z",), ("Y",), ("depth.V",), ("Y", "A"), ("R", "G", "B"), ("l.R", "l.G", "l.B", "l.A")]
)
def test_exr_channels(tmp_path, names):
    depth = RNG.random((SIZE, SIZE)).astype(np.float32)
    (tmp_path / "a.exr").write_bytes(image_files.exr(dict.fromkeys(names, depth)))
    np.testing.assert_array_equal(condition("depth", tmp_path / "a.exr"), depth)


@pytest.mark.parametrize("names, window, message", [
    (("Z", "N.X"), None, "its channels are"), (("R", "G"), None, "its channels are R?G?"),
    (("Z",), (0, 0, 20, 20), "a part of its picture only"),
])  # fmt: skip
def test_exr_files_that_are_refused(tmp_path, names, window, message):
    channels = dict.fromkeys(names, np.zeros((SIZE, SIZE), np.float32))
    (tmp_path / "a.exr").write_bytes(image_files.exr(channels, window))
    with pytest.raises(UsageError, match=f"a.exr.* cannot be read .*{message}"):
        condition("depth", tmp_path / "a.exr")


def test_exr_ids_and_normals_by_axis(tmp_path):
    ids = RNG.integers(0, 4, (SIZE, SIZE)).astype(np.uint32)
    (tmp_path / "ids.exr").write_bytes(image_files.exr({"id": ids}))
    np.testing.assert_array_equal(condition("mask", tmp_path / "ids.exr"), ids)
    vectors = np.zeros((3, SIZE, SIZE), np.float32)
    vectors[0] = 1
    (tmp_path / "n.exr").write_bytes(image_files.exr(dict(zip(("N.X", "N.Y", "N.Z"), vectors, strict=True))))
    np.testing.assert_array_equal(condition("normal", tmp_path / "n.exr"), np.moveaxis(vectors, 0, -1))


def test_tiff_of_other_kinds(tmp_path):
    path = tmp_path / "a.tif"
    grey = RNG.integers(0, 65536, (SIZE, SIZE)).astype(np.uint16)
    path.write_bytes(image_files.tiff(grey, 16, photometric=0))  # white is zero
    np.testing.assert_array_equal(tile("depth", path)[..., 0], 65535 - grey)
    path.write_bytes(image_files.tiff((grey // 2).astype(np.int16), 16))
    np.testing.assert_allclose(condition("depth", path), (grey // 2) / 32767, atol=1e-7)
    path.write_bytes(image_files.tiff(np.full((SIZE, SIZE), -5, np.int16), 16))
    with pytest.raises(UsageError, match="its numbers are int16, negative"):
        condition("depth", path)
    path.write_bytes(image_files.tiff(np.zeros((SIZE, SIZE), np.complex64), 64))
    with pytest.raises(UsageError, match="its numbers are complex64"):
        condition("depth", path)
    path.write_bytes(image_files.tiff(RNG.integers(0, 9, (SIZE, SIZE, 6)).astype(np.uint16), 16))
    with pytest.raises(UsageError, match="it has 6 channels; at most 4 are read"):
        condition("rgb", path)


LOSSLESS = ["png", "tiff", "webp", "bmp", "gif", "ppm", "jp2", "qoi"]


@pytest.mark.parametrize("name", LOSSLESS)
def test_formats_that_keep_colours(tmp_path, name):
    colors = PALETTE[RNG.integers(0, 4, (SIZE, SIZE))]
    more = {"lossless": True} if name == "webp" else {}
    Image.fromarray(colors).save(tmp_path / f"a.{name}", **more)
    for m in ("rgb", "mask"):
        np.testing.assert_array_equal(tile(m, tmp_path / f"a.{name}"), colors)
    np.testing.assert_array_equal(condition("rgb", tmp_path / f"a.{name}"), colors)
    np.testing.assert_array_equal(PALETTE[condition("mask", tmp_path / f"a.{name}")], colors)
    assert f".{name}" in SUFFIXES


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "tiff_adobe_deflate", "zstd", "lzma"])
def test_compressed_tiff(tmp_path, compression):
    for numbers in (
        RNG.integers(0, 65536, (SIZE, SIZE)).astype(np.uint16),
        RNG.random((SIZE, SIZE)).astype(np.float32),
    ):
        Image.fromarray(numbers).save(tmp_path / "a.tif", compression=compression)
        top = 65535 if numbers.dtype == np.uint16 else 1
        np.testing.assert_allclose(condition("depth", tmp_path / "a.tif"), numbers / top, atol=1e-7)


@pytest.mark.parametrize("name, mode", [
    ("jpg", "RGB"), ("jpg", "L"), ("jpg", "CMYK"), ("webp", "RGB"), ("avif", "RGB"), ("jfif", "RGB"), ("tif", "CMYK"),
])  # fmt: skip
def test_formats_that_change_colours(tmp_path, name, mode):
    """Photos are read as Pillow reads them; masks of them are refused, except where the palette is known."""
    Image.fromarray(PALETTE[RNG.integers(0, 4, (3, 3)).repeat(4, 0).repeat(4, 1)]).convert(mode).save(
        tmp_path / f"a.{name}"
    )
    with Image.open(tmp_path / f"a.{name}") as image:
        truth = np.array(image.convert("RGB"))
    for read in (tile, condition):
        np.testing.assert_array_equal(read("rgb", tmp_path / f"a.{name}"), truth)
    if name != "tif":
        with pytest.raises(
            UsageError, match="is compressed by a method that changes colours; allowed: one flat colour"
        ):
            tile("mask", tmp_path / f"a.{name}")


def test_a_jpeg_mask_is_read_where_the_palette_is_known(tmp_path):
    ids = RNG.integers(0, 4, (2, 2)).repeat(32, 0).repeat(32, 1)
    Image.fromarray(PALETTE[ids]).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    found = MODALITIES["mask"].condition(tmp_path / "a.jpg", 64, Facts(PALETTE))[0]
    np.testing.assert_array_equal(found, ids)
    rows, columns = np.mgrid[:256, :256]
    rings = Image.fromarray(PALETTE[(np.hypot(rows - 90, columns - 70) // 40 % 4).astype(int)])
    rings.save(tmp_path / "was.jpg")
    with Image.open(tmp_path / "was.jpg") as image:
        image.save(tmp_path / "was.png")
    rings.resize((364, 364), Image.Resampling.BICUBIC).save(tmp_path / "resized.png")
    for name in ("was.png", "resized.png"):
        with pytest.raises(UsageError, match="of them in less than 4 pixels, as blurred masks do; allowed: one flat"):
            tile("mask", tmp_path / name)


def test_a_mask_of_noise_is_kept(tmp_path):
    colors = RNG.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(colors).save(tmp_path / "a.png")
    np.testing.assert_array_equal(tile("mask", tmp_path / "a.png"), colors)


def test_hundreds_of_regions(tmp_path):
    """Region ids of 16 bits, as they are written, are read again, and so are their colours."""
    palette = RNG.permutation(256**3)[:300]
    palette = np.stack([palette >> 16, palette >> 8 & 255, palette & 255], -1).astype(np.uint8)
    facts, ids = Facts(palette), np.arange(300).repeat(12).reshape(60, 60)
    for name, pixels in MODALITIES["mask"].files(ids, facts).items():
        Image.fromarray(pixels).save(tmp_path / name)
        found = MODALITIES["mask"].condition(tmp_path / name, 60, facts)
        np.testing.assert_array_equal(found[0], ids)
    np.testing.assert_array_equal(tile("mask", tmp_path / "mask.png"), palette[ids])
    with pytest.raises(UsageError, match="0 to 65535 that 8 bits cannot tell apart"):
        tile("mask", tmp_path / "mask_ids.png")


def test_pfm_and_pgm(tmp_path):
    depth = RNG.random((SIZE, SIZE)).astype(np.float32)
    (tmp_path / "a.pfm").write_bytes(b"Pf\n12 12\n-1.0\n" + depth[::-1].tobytes())
    np.testing.assert_array_equal(condition("depth", tmp_path / "a.pfm"), depth)
    grey = RNG.integers(0, 65536, (SIZE, SIZE)).astype(np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 12 12 65535\n" + grey.astype(">u2").tobytes())
    np.testing.assert_array_equal(tile("depth", tmp_path / "a.pgm")[..., 0], grey)


@pytest.mark.parametrize("top", [3, 15, 255, 1023, 65535])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_pnm_of_any_largest_number(top, plain, channels):
    numbers = RNG.integers(0, top + 1, (SIZE, SIZE, channels)).astype(np.uint16)
    body = (
        " ".join(map(str, numbers.ravel())).encode()
        if plain
        else numbers.astype(">u2" if top > 255 else np.uint8).tobytes()
    )
    kind = {1: 5, 3: 6}[channels] - 3 * plain
    image = decode(f"P{kind} {SIZE} {SIZE} {top}\n".encode() + body)
    np.testing.assert_array_equal(image.samples, numbers.squeeze())
    assert image.top == top


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_2000_of_more_than_8_bits(bits, channels):
    numbers = RNG.integers(0, 2**bits, (SIZE, SIZE, channels)).astype(np.uint16).squeeze()
    image = decode(imagecodecs.jpeg2k_encode(numbers, level=0, reversible=True, bitspersample=bits))
    wanted = numbers if channels == 1 else numbers[..., 0] if channels == 2 else numbers[..., :3]
    np.testing.assert_array_equal(image.samples, wanted)
    assert image.top == 2**bits - 1


def test_ids_in_three_channels_are_ids(tmp_path):
    """Dark greys are not all the palette's black."""
    ids = RNG.integers(0, 4, (SIZE, SIZE)).astype(np.uint8)
    (tmp_path / "a.png").write_bytes(png(ids[..., None].repeat(3, -1), 8, "rgb"))
    np.testing.assert_array_equal(condition("mask", tmp_path / "a.png"), ids)
    with pytest.raises(UsageError, match="look alike, as region ids do"):
        tile("mask", tmp_path / "a.png")


def test_an_image_of_floats_that_a_writer_made_pages_of(tmp_path):
    vectors = RNG.normal(size=(SIZE, SIZE, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    tifffile.imwrite(tmp_path / "n.tif", vectors)
    np.testing.assert_allclose(condition("normal", tmp_path / "n.tif"), vectors, atol=1e-6)


def test_the_first_frame_counts():
    frames = [Image.new("RGB", (SIZE, SIZE), color) for color in ((9, 8, 7), (1, 2, 3))]
    for name, more in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("GIF", {})):
        file = io.BytesIO()
        frames[0].save(file, name, save_all=True, append_images=frames[1:], **more)
        assert (decode(file.getvalue()).colors() == (9, 8, 7)).all(), name


def damaged(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1 and len(old) == len(new)
    return data.replace(old, new)


def fax(height: int) -> bytes:
    """A TIFF that claims to be 5000 pixels wide, in 20 bytes that a decoder of faxes makes pixels of."""
    fields = (256, 5000), (257, height), (258, 1), (259, 4), (262, 1), (273, 8), (277, 1), (278, height), (279, 20)
    listed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields)
    return b"II*\0" + struct.pack("<I", 28) + b"a" * 20 + struct.pack("<H", len(fields)) + listed + bytes(4)


def jpeg(**options: bool) -> bytes:
    with io.BytesIO() as file:
        Image.new("RGB", (4000, 4000), (9, 9, 9)).save(file, "JPEG", **options)
        return file.getvalue()


def test_small_files_that_claim_pixels_which_they_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="its 20 bytes cannot hold the 3000 rows that its header says"):
        decode(fax(3000))
    assert decode(fax(20)).samples.shape == (20, 5000)
    with io.BytesIO() as file:
        tifffile.imwrite(file, np.zeros((64, 64), np.uint8), tile=(16, 16), compression="zlib")
        whole = file.getvalue()
    counts = tifffile.TiffFile(io.BytesIO(whole)).pages.first.tags["TileByteCounts"]
    absent = bytearray(whole)
    absent[counts.valueoffset] = 0
    assert (decode(whole).samples == 0).all()
    with pytest.raises(ValueError, match="some of its strips or tiles are not in it"):
        decode(bytes(absent))
    with io.BytesIO() as file:
        Image.new("RGB", (64, 64)).save(file, "JPEG")
        small = file.getvalue()
    with pytest.raises(ValueError, match=r"its \d+ bytes cannot hold the \(4000, 4000\) pixels"):
        decode(damaged(small, b"\x08\0\x40\0\x40\x03", b"\x08\x0f\xa0\x0f\xa0\x03"))


def made(format: str, **options: object) -> Callable[[Image.Image], bytes]:
    def of(image: Image.Image) -> bytes:
        with io.BytesIO() as file:
            image.save(file, format, **options)
            return file.getvalue()

    return of


def exr_of_zeros(image: Image.Image) -> bytes:
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        zeros = np.zeros((image.height, image.width), np.float16)
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION}, {"Z": zeros}).write(file.name)
        return file.read()


FORMATS = {
    "png": made("PNG"), "webp": made("WEBP", lossless=True), "jp2": made("JPEG2000"), "avif": made("AVIF", speed=10),
    "gif": made("GIF"), "qoi": lambda image: imagecodecs.qoi_encode(np.array(image)),
    "jp2 16": lambda image: imagecodecs.jpeg2k_encode(np.array(image, np.uint16), level=0, reversible=True),
    "png 16": lambda image: imagecodecs.png_encode(np.array(image, np.uint16)),
    "tiff": made("TIFF", compression="zstd"), "exr": exr_of_zeros,
}  # fmt: skip
WIDE = ("jp2 16", "png 16", "exr")  # more than 8 bits


@pytest.mark.parametrize("format", FORMATS)
def test_the_decoded_size_is_limited_before_anything_is_decoded(monkeypatch, format):
    """Of every format, and whatever the file's size; images of one colour are small in some, and read up to there."""
    data = FORMATS[format](Image.new("RGB", (600, 400)))
    assert decode(data).samples.shape[:2] == (400, 600)
    monkeypatch.setattr(decoding, "_ANY_PIXELS", 239_999 - decoding._PIXELS_PER_BYTE * len(data))
    with pytest.raises(ValueError, match=rf"x .* pixels, and at most 239999 are read of {len(data)} bytes"):
        decode(data)
    monkeypatch.setattr(decoding, "_ANY_PIXELS", 2**24)
    monkeypatch.setattr(decoding, "_MOST_PIXELS", 2 * 239_999 if format in WIDE else 239_999)
    for decoder in (Image.Image, ImageFile.ImageFile):
        monkeypatch.setattr(decoder, "load", None)
    with pytest.raises(ValueError, match="pixels, and at most 239999 of its type are read"):
        decode(data)


@pytest.mark.parametrize("parts, channels", [(1, 60), (40, 1)])
def test_all_parts_and_channels_of_exr_files_count(tmp_path, monkeypatch, parts, channels):
    zeros = {f"c{i}": np.zeros((100, 100), np.float32) for i in range(channels)}
    made = [OpenEXR.Part({"name": f"p{i}", "type": OpenEXR.scanlineimage}, zeros) for i in range(parts)]
    OpenEXR.File(made).write(str(tmp_path / "a.exr"))
    monkeypatch.setattr(decoding, "_MOST_PIXELS", 2 * 90_000)
    numbers = 10_000 * parts * channels
    with pytest.raises(ValueError, match=f"its parts and channels have {numbers} numbers, and at most 360000 are read"):
        decode((tmp_path / "a.exr").read_bytes())


@pytest.mark.parametrize("options", [{}, {"optimize": True, "progressive": True}])
def test_a_large_jpeg_of_one_colour_is_read(options):
    samples = decode(jpeg(quality=1, **options)).samples
    assert samples.shape == (4000, 4000, 3) and (np.abs(samples.astype(int) - 9) < 9).all()


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma", "packbits"])
@pytest.mark.parametrize("tile", [None, (512, 512)])
def test_a_large_tiff_of_one_colour_is_read(compression, tile):
    image = np.full((4000, 4000), 60000, np.uint16)
    with io.BytesIO() as file:
        tifffile.imwrite(file, image, compression=compression, tile=tile)
        np.testing.assert_array_equal(decode(file.getvalue()).samples, image)
