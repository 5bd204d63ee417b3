"""What is given in place of an image ends in one clean line: nothing is waited for, and no memory is taken."""

import io
import os
import resource

import image_files
import imagecodecs
import numpy as np
import pytest
from PIL import Image

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

RNG = np.random.default_rng(3)


def refused(read, *arguments) -> str:
    """The message of the one line that reading ends in."""
    with pytest.raises(UsageError) as caught:
        read(*arguments)
    message = str(caught.value)
    assert message.isprintable() and "allowed: " in message and len(message) < 600
    return message


def condition(path, m="depth"):
    return MODALITIES[m].condition(path, 16, Facts(PALETTE))


def both_refused(path) -> list[str]:
    """Messages of the file as a condition and as a tile, for every modality."""
    tiles = [refused(MODALITIES[m].read, path) for m in MODALITIES]
    return tiles + [refused(condition, path, m) for m in MODALITIES]


def npy(header: str, version=(1, 0), data: bytes = bytes(64)) -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2 if version == (1, 0) else 4, "little") + text + data


def array_header(shape, descr="'<f4'", fortran="False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


HEADERS = {
    "2^45 bytes": npy(array_header((2**45 * 3,), "'|u1'")),
    "2^40 floats": npy(array_header((2**20, 2**20))),
    "2^64 numbers": npy(array_header((2**64,))),
    "2^31 by 2^31 by 2^31": npy(array_header((2**31,) * 3)),
    "20 GB": npy(array_header((5 * 2**30,))),
    "negative": npy(array_header((-4, 4))),
    "no shape": npy("{'descr': '<f4', 'fortran_order': False}\n"),
    "shape of texts": npy(array_header("('a', 'b')")),
    "shape of floats": npy(array_header((4.0, 4.0))),
    "shape of true": npy(array_header((True, True))),
    "shape nested": npy(array_header("(" * 200 + ")" * 200)),
    "nested": npy("(" * 9000),
    "nested lists": npy("[" * 4000 + "]" * 4000),
    "minuses": npy("-" * 9000 + "1"),
    "very long": npy(array_header((4, 4)) + " " * 60000),
    "2^32 - 1 long": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "code": npy("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (4, 4)}"),
    "escapes": npy("\x1b[31m\x07\r"),
    "no dict": npy("1"),
    "empty": npy(""),
    "dimensions": npy(array_header((1,) * 100)),
    "version 9": npy(array_header((4, 4)), (9, 9)),
    "objects": npy(array_header((4, 4), "'|O'")),
    "no type": npy(array_header((4, 4), "'?!'")),
    "no size": npy(array_header((2**60,), "'|V0'")),
    "texts": npy(array_header((4, 4), "'<U1'")),
    "complex": npy(array_header((2, 4), "'<c8'")),
    "times": npy(array_header((2, 4), "'<M8[s]'")),
    "records": npy(array_header((4, 4), "[('a', '<f4')]")),
    "no numbers": npy(array_header((0, 16))),
    "no dimensions": npy(array_header(())),
    "cut": npy(array_header((16, 16)))[:40],
    "cut numbers": npy(array_header((16, 16))),
    "only the magic": b"\x93NUMPY",
    "nothing": b"",
    "text": b"0.5 0.5",
    "NUL bytes": bytes(1000),
    "a pickle": b"\x80\x04K\x01.",
    "a PNG": image_files.png(np.zeros((16, 16), np.uint8), 8, "grey"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_npy_headers(tmp_path, name):
    path = tmp_path / "a.npy"
    path.write_bytes(HEADERS[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for m in MODALITIES:
        assert "a.npy" in refused(condition, path, m)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # 128 MB


def test_npz_in_place_of_npy(tmp_path):
    for name in ("a.npy", "a.NPY"):
        with open(tmp_path / name, "wb") as file:
            np.savez(file, np.zeros((16, 16)))
        assert "cannot be read" in refused(condition, tmp_path / name)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2", ">u2", "|u1"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_that_is_sound(tmp_path, dtype, version):
    numbers = (RNG.random((16, 16)) if dtype[1] == "f" else RNG.integers(0, 256, (16, 16))).astype(dtype)
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asfortranarray(numbers), version)
    (tmp_path / "a.NPY").write_bytes(file.getvalue())
    top = {">u2": 65535, "|u1": 255}.get(dtype, 1)
    np.testing.assert_allclose(condition(tmp_path / "a.NPY")[0], numbers.astype(np.float64) / top, atol=1e-7)


@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_what_is_not_a_file(tmp_path, suffix):
    pipe = tmp_path / f"pipe.{suffix}"
    os.mkfifo(pipe)
    (tmp_path / f"to_pipe.{suffix}").symlink_to(pipe)
    (tmp_path / f"device.{suffix}").symlink_to("/dev/zero")
    (tmp_path / f"dangling.{suffix}").symlink_to("nowhere")
    (tmp_path / f"loop.{suffix}").symlink_to(f"loop.{suffix}")
    (tmp_path / f"folder.{suffix}").mkdir()
    with open(tmp_path / f"large.{suffix}", "wb") as file:
        file.truncate(10 * 2**40)
    for name, message in (
        ("pipe", "is a FIFO; allowed: an image or NPY file"), ("to_pipe", "is a FIFO"), ("device", "is a device"),
        ("dangling", "is a link that leads nowhere"), ("loop", "is a link that leads nowhere"),
        ("folder", "is a folder"),
        ("large", "has 10995116277760 bytes"), ("nothing", "no such file"),
        ("a\0b", "allowed: a path on this machine"),
        ("x" * 300, "no such file"), ("large.png/x", "no such file"),
    ):  # fmt: skip
        for text in both_refused(str(tmp_path / f"{name}.{suffix}")):
            assert any(part in text for part in message.split("|")), text


@pytest.mark.parametrize("url", [
    "http://example.com/a.png", "https://example.com/a.npy", "file:///tmp/a.png", "s3://bucket/a.png", "ftp://a/b.png",
    "HTTPS://example.com/a.png", "data://x", "gs+x://a.png", "://a.png",
])  # fmt: skip
def test_urls(url):
    for text in both_refused(url):
        assert f"{url}) is a URL" in text or f"{url} is a URL" in text


@pytest.mark.skipif("__import__('importlib.util').util.find_spec('gcsfs')", reason="gcsfs is installed")
def test_google_cloud_without_its_package():
    for text in both_refused("gs://bucket/a.png"):
        assert "which needs gcsfs; " in text and "./launch/setup.sh --gcs" in text


NAMES = ["a\x1b[31mred.png", "a\nb.png", "a\r\tb.png", "a\x07\x00"[:2] + ".png", "\u202egnp.png", "a\u2028b.png",
         "a\x9b31m.png", "a\udcffb.png", "a\x7f.png", "two  spaces.png", "[a]*?.png", "é.png", "日本.png"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_with_control_characters(tmp_path, name):
    path = os.path.join(tmp_path, name)
    both_refused(path)
    depth = RNG.integers(0, 65536, (16, 16)).astype(np.uint16)
    with open(os.fsencode(path), "wb") as file:
        file.write(image_files.png(depth, 16, "grey"))
    np.testing.assert_array_equal(MODALITIES["depth"].read(path)[..., 0], depth)
    np.testing.assert_allclose(condition(path)[0], depth / 65535, atol=1e-7)
    with open(os.fsencode(path), "wb") as file:
        file.write(b"no image")
    assert all("cannot be read" in text for text in both_refused(path))


def bombs():
    wide = bytearray(image_files.png(np.zeros((1, 1, 3), np.uint16), 16, "rgb"))
    wide[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    wide[29:33] = __import__("zlib").crc32(wide[12:29]).to_bytes(4, "big")
    grey = bytearray(image_files.png(np.zeros((1, 1), np.uint8), 8, "grey"))
    grey[16:24] = (100_000).to_bytes(4, "big") * 2
    grey[29:33] = __import__("zlib").crc32(grey[12:29]).to_bytes(4, "big")
    huge = {"t256": 60000, "t257": 60000, "t278": 60000}
    exr = image_files.exr({"Z": np.zeros((2, 2), np.float32)})
    box = np.array([0, 0, 1, 1], "<i4").tobytes()
    return {
        "PNG of 16 bits": bytes(wide),
        "PNG of 8 bits": bytes(grey),
        "TIFF of 16 bits": image_files.tiff(np.zeros((2, 2, 3), np.uint16), 16, 2, **huge),
        "TIFF of floats": image_files.tiff(np.zeros((2, 2), np.float64), 64, 1, **huge),
        "EXR": exr.replace(box, np.array([0, 0, 2**30, 2**30], "<i4").tobytes()),
        "EXR of negative size": exr.replace(box, np.array([5, 5, -5, -5], "<i4").tobytes()),
        "PGM": b"P5 100000 100000 65535\n",
        "PFM": b"Pf\n100000 100000\n-1.0\n",
        "QOI": b"qoif" + (100_000).to_bytes(4, "big") * 2 + b"\3\0",
        "BMP": b"BM"
        + bytes(8)
        + b"\x36\0\0\0\x28\0\0\0"
        + (100_000).to_bytes(4, "little") * 2
        + b"\1\0\x18\0"
        + bytes(24),
    }


@pytest.mark.parametrize("name", bombs())
def test_sizes_that_headers_claim(tmp_path, name):
    (tmp_path / "a.png").write_bytes(bombs()[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in both_refused(str(tmp_path / "a.png")):
        assert "a.png" in text and "cannot be read" in text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17  # 128 MB


@pytest.mark.parametrize("shape", [(1, 50_000), (50_000, 1), (2, 129)])
def test_thin_images_are_refused_before_they_are_resized(tmp_path, shape):
    (tmp_path / "a.png").write_bytes(image_files.png(np.zeros((*shape, 3), np.uint8), 8, "rgb"))
    for text in both_refused(str(tmp_path / "a.png")):
        assert "one side at most 64 times as long as the other" in text
    np.save(tmp_path / "a.npy", np.zeros((2, 129), np.float32))
    assert "has 129x2 pixels" in refused(condition, tmp_path / "a.npy")


def sound_files():
    pixels = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    made = {}
    for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "QOI", "PPM"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, name)
        made[name] = file.getvalue()
    deep = pixels.astype(np.uint16) * 257
    made["JPEG 2000 of 16 bits"] = imagecodecs.jpeg2k_encode(deep, level=0, reversible=True)
    made["PPM of 16 bits"] = b"P6 16 16 65535\n" + deep.astype(">u2").tobytes()
    made["PNG of 16 bits"] = image_files.png(deep, 16, "rgb")
    made["TIFF of 16 bits"] = image_files.tiff(deep, 16, 2, ">")
    made["TIFF of floats"] = image_files.tiff(RNG.random((16, 16)).astype(np.float32), 32)
    file = io.BytesIO()
    Image.fromarray(deep[..., 0]).save(file, "TIFF", compression="tiff_lzw")
    made["TIFF of LZW"] = file.getvalue()
    made["EXR"] = image_files.exr({"Z": RNG.random((16, 16)).astype(np.float32)})
    return made


SOUND = sound_files()


@pytest.mark.parametrize("name", SOUND)
def test_damaged_files_are_read_or_named(tmp_path, capfd, name):
    """Cut anywhere, and with bytes changed at random: an image or one line, and nothing printed beside it."""
    path, data, cut = str(tmp_path / "a.img"), SOUND[name], 0
    for i in range(150):
        damaged = bytearray(data)
        if i < 50:
            damaged = damaged[: len(data) * i // 50]
        else:
            for at in RNG.integers(0, len(data), RNG.integers(1, 6)):
                damaged[at] = RNG.integers(256)
        with open(path, "wb") as file:
            file.write(damaged)
        try:
            assert MODALITIES["depth"].read(path).dtype == np.uint16
        except UsageError as error:
            assert str(error).isprintable() and path in str(error)
            cut += i < 45
    assert cut == 45  # what lacks its end is never an image
    assert capfd.readouterr() == ("", "")
