"""Compares resizing with that of PyTorch and Pillow."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax.frozen import resample

SIZES = [((5, 7), (11, 14)), ((16, 16), (16, 16)), ((37, 37), (16, 16)), ((9, 4), (3, 9)), ((4, 5), (1, 2))]


@pytest.mark.parametrize(
    "matrix, options",
    [
        (resample.bicubic, {"mode": "bicubic", "align_corners": False}),
        (resample.smooth_bicubic, {"mode": "bicubic", "align_corners": False, "antialias": True}),
        (resample.bilinear, {"mode": "bilinear", "align_corners": False}),
        (resample.corner_bilinear, {"mode": "bilinear", "align_corners": True}),
    ],
)
@pytest.mark.parametrize("old, new", SIZES)
def test_as_pytorch_does_it(matrix, options, old, new, rng):
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, *old, 3)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x).permute(0, 3, 1, 2), new, **options)
    found = resample.resize(x, *new, matrix)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=2e-6)


def test_positions_are_resized_as_dino_does_it(rng):
    """Its code asks PyTorch for a tenth of a patch more, and takes the whole ones."""
    torch = pytest.importorskip("torch")
    x = rng.normal(size=(2, 37, 9, 3)).astype(np.float32)
    factors = (16.1 / 37, 12.1 / 9)
    pixels = torch.from_numpy(x).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(pixels, scale_factor=factors, mode="bicubic")
    found = resample.resize(x, 16, 12, resample.offset_bicubic)
    np.testing.assert_allclose(
        found, expected.permute(0, 2, 3, 1).numpy(), atol=2e-5
    )  # PyTorch has positions in float32


@pytest.mark.parametrize("new", [(16, 12), (40, 60)])
def test_smooth_bicubic_is_that_of_pillow(new, rng):
    x = rng.normal(size=(25, 31)).astype(np.float32)
    expected = np.array(Image.fromarray(x).resize(new[::-1], Image.Resampling.BICUBIC))
    np.testing.assert_allclose(
        resample.resize(x[..., None], *new, resample.smooth_bicubic)[..., 0], expected, atol=2e-6
    )


@pytest.mark.parametrize(
    "matrix", [resample.bicubic, resample.smooth_bicubic, resample.bilinear, resample.corner_bilinear]
)
def test_constants_stay(matrix):
    for old, new in ((3, 8), (8, 3), (1, 4), (4, 1)):
        np.testing.assert_allclose(matrix(old, new).sum(1), 1, atol=1e-12)
