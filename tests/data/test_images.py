"""Tests how given modalities are read from files and arrays."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError


def adm_crop(image, size):
    """The function center_crop_arr of guided-diffusion, written out."""
    while min(*image.size) >= 2 * size:
        image = image.resize(tuple(x // 2 for x in image.size), resample=Image.BOX)
    scale = size / min(*image.size)
    image = image.resize(tuple(round(x * scale) for x in image.size), resample=Image.BICUBIC)
    array = np.array(image)
    top, left = (array.shape[0] - size) // 2, (array.shape[1] - size) // 2
    return array[top : top + size, left : left + size]


def condition(name, given, size=16):
    return MODALITIES[name].condition(given, size, Facts(PALETTE))


@pytest.mark.parametrize("shape", [(70, 53), (16, 40), (9, 12), (33, 32)])
def test_rgb_is_cropped_as_in_adm(rng, shape):
    pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    np.testing.assert_array_equal(condition("rgb", pixels)[0], adm_crop(Image.fromarray(pixels), 16))


def test_images_of_the_right_size_are_not_changed(rng):
    rgb = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(condition("rgb", rgb), rgb)
    depth = rng.random((16, 16), np.float32)
    np.testing.assert_array_equal(condition("depth", depth)[0], depth)
    ids = rng.integers(0, 4, (16, 16))
    np.testing.assert_array_equal(condition("mask", ids)[0], ids)
    np.testing.assert_array_equal(condition("mask", PALETTE[ids])[0], ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth_files_of_8_and_16_bits(rng, tmp_path, dtype):
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (16, 16), dtype=dtype)
    Image.fromarray(pixels).save(tmp_path / "depth.png")
    found = condition("depth", tmp_path / "depth.png")
    assert found.dtype == np.float32 and found.shape == (1, 16, 16)
    np.testing.assert_allclose(found[0], pixels / np.iinfo(dtype).max, atol=1e-6)


def test_depth_keeps_its_range_when_resized():
    step = np.zeros((40, 40), np.uint16)
    step[:, 20:] = 65535
    found = condition("depth", step)
    assert found.min() == 0 and found.max() == 1


def test_normals_have_unit_length(rng, tmp_path):
    vectors = rng.normal(size=(48, 40, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    np.save(tmp_path / "normal.npy", vectors)
    Image.fromarray(np.rint((vectors + 1) * 127.5).astype(np.uint8)).save(tmp_path / "normal.png")
    exact, rounded = condition("normal", tmp_path / "normal.npy"), condition("normal", str(tmp_path / "normal.png"))
    np.testing.assert_allclose(np.linalg.norm(exact, axis=-1), 1, atol=1e-5)
    assert np.mean((exact * rounded).sum(-1)) > 0.99


def test_mask_files_of_colours_ids_and_indices(rng, tmp_path):
    ids = rng.integers(0, 4, (5, 5)).repeat(8, 0).repeat(8, 1).astype(np.uint8)  # 40 x 40
    Image.fromarray(PALETTE[ids]).save(tmp_path / "colors.png")
    Image.fromarray(ids).save(tmp_path / "ids.png")
    indexed = Image.fromarray(ids, "P")
    indexed.putpalette([9, 9, 9] * 256)
    indexed.save(tmp_path / "indexed.png")
    np.save(tmp_path / "ids.npy", ids.astype(np.int64))
    wanted = condition("mask", ids)
    assert wanted.dtype == np.int32 and wanted.shape == (1, 16, 16)
    for name in ("colors.png", "ids.png", "indexed.png", "ids.npy"):
        np.testing.assert_array_equal(condition("mask", tmp_path / name), wanted)


def test_jpeg_and_opaque_alpha_are_read(rng, tmp_path):
    pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    assert condition("rgb", tmp_path / "a.jpg").shape == (1, 16, 16, 3)
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(condition("rgb", tmp_path / "a.png")[0], pixels)


def zeros(*shape, dtype=np.uint8):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("rgb", zeros(8, 8, 4), r"given rgb \(array\) has shape \[8, 8, 4\]; allowed: \[H, W, 3\]"),
        ("rgb", zeros(8, 8), r"has shape \[8, 8\]; allowed: \[H, W, 3\]"),
        ("rgb", zeros(8, 8, 3, dtype=float), "has type float64; allowed: uint8"),
        ("rgb", zeros(1, 8, 3), "at least 2 x 2"),
        ("rgb", zeros(0, 8, 8, 3), "at least 2 x 2"),
        ("depth", zeros(8, 8, 3), r"has shape \[8, 8, 3\]; allowed: \[H, W\]"),
        ("depth", zeros(8, 8, dtype=np.int64), "has type int64; allowed: uint8, uint16 or float"),
        ("depth", np.full((8, 8), 3.5), r"has values from 3.5 to 3.5; allowed: floats in \[0, 1\]"),
        ("depth", np.full((8, 8), np.nan), "not finite"),
        ("normal", zeros(8, 8, 3, dtype=float), "has only vectors of length zero"),
        ("normal", np.full((8, 8, 3), 128, np.uint8), "has only vectors of length zero"),
        ("normal", np.full((8, 8, 3), 7.0), "has values from 7 to 7"),
        ("mask", np.full((8, 8), 4), "has region ids from 4 to 4; allowed: ids 0 to 3"),
        ("mask", np.full((8, 8), -1), "has region ids from -1"),
        ("mask", np.full((8, 8, 3), 128, np.uint8), "100% of its pixels in colours that are not a region's"),
        ("mask", zeros(8, 8, dtype=float), "has type float64; allowed: integers"),
        ("rgb", "missing.png", r"given rgb \(missing.png\): no such file"),
        ("rgb", ".", "is a folder"),
    ],
)
def test_bad_conditions_are_named(name, given, message):
    with pytest.raises(UsageError, match=message) as caught:
        condition(name, given)
    assert "\n" not in str(caught.value) and "allowed" in str(caught.value)


def test_bad_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.npy").write_text("no numbers")
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    Image.fromarray(zeros(8, 8, 4)).save(tmp_path / "clear.png")
    Image.fromarray(zeros(8, 8)).save(tmp_path / "grey.png")
    Image.fromarray(zeros(8, 8, 4), "CMYK").save(tmp_path / "ink.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    for file, message in (
        ("text.png", "cannot be read"),
        ("text.npy", "cannot be read"),
        ("objects.npy", "cannot be read"),
        ("cut.png", "cannot be read"),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            condition("rgb", tmp_path / file)
        assert file in str(caught.value)
