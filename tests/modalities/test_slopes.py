"""The size of levels of depth that was rounded, and resized after that; normals of analytic planes with it."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax.data.shapes.render import render
from mmgen_jax.data.shapes.single import DEPTH_RANGE
from mmgen_jax.modalities.geometry import Camera, angle, depth_to_relative
from mmgen_jax.modalities.slopes import level, normals

HEIGHT, WIDTH, DISTANCE = 192, 288, 2.2


def wall(direction) -> tuple[np.ndarray, np.ndarray]:
    """Relative inverse depth [H, W] of a plane, 2.2 m away, seen by the camera of 60 degrees, and its unit normal."""
    normal = np.array(direction) / np.linalg.norm(direction)
    focal = WIDTH / 2 / np.tan(np.pi / 6)
    x = (np.arange(WIDTH) + 0.5 - WIDTH / 2) / focal
    y = -(np.arange(HEIGHT)[:, None] + 0.5 - HEIGHT / 2) / focal
    inverse = (normal[2] - normal[0] * x - normal[1] * y) / DISTANCE
    return np.clip((inverse - 0.1) / 0.9, 0, 1), normal


def resized(numbers, scale, method=Image.Resampling.BICUBIC):
    image = Image.fromarray(numbers.astype(np.float32))
    return np.array(image.resize((round(WIDTH * scale), round(HEIGHT * scale)), method)).astype(np.float64)


@pytest.mark.parametrize("direction", [(0.2, 0, 1), (-0.2, 0, 1), (0.1, 0.1, 1)])
@pytest.mark.parametrize("scale", [1.3, 1.5, 2.0])
@pytest.mark.parametrize("method", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
def test_depth_of_8_bits_that_was_resized_and_stored_in_16(direction, scale, method):
    relative, normal = wall(direction)
    stored = np.rint(resized(np.rint(relative * 255), scale, method).clip(0, 255) * 257) / 65535
    assert abs(level(stored) * 255 - 1) < 0.02
    assert angle(normals(stored, Camera()), normal).mean() < 3


@pytest.mark.parametrize("direction", [(0.3, 0, 1), (0.5, 0, 1), (1, 0, 1), (0, 1, 1), (-0.7, 0.5, 1)])
@pytest.mark.parametrize("scale", [0.7, 1.5, 2.0])
@pytest.mark.parametrize("shifted", [False, True])
def test_steep_slopes_of_8_bits_that_were_resized_and_stored_in_16(direction, scale, shifted):
    """They have no flat parts. Where there are none, all numbers occur, and slopes of single levels looked exact."""
    relative, normal = wall(direction)
    rounded = np.rint(relative * 255)
    top = 256 * 255 if shifted else 65535
    stored = np.rint(resized(rounded, scale).clip(0, 255) * (256 if shifted else 257)) / 65535
    exact = normals(resized(relative, scale).clip(0, 1) * top / 65535, Camera())
    assert angle(normals(stored, Camera()), exact).mean() < (3 if scale < 1 else 1)


def test_depth_of_16_bits_does_not_gather_around_levels_of_8():
    """Rendered scenes, planes and boards, as they are and resized: their level is the smallest difference."""
    scenes = [depth_to_relative(z, DEPTH_RANGE) for z in render(0, "test", np.arange(6), 128)["depth"]]
    planes = [wall(direction)[0] for direction in ((0.3, 0, 1), (1, 0, 1), (0, 1, 1), (2, 0.5, 1))]
    for image in (np.rint(x * 65535) for x in scenes + planes):
        for numbers in (image, np.rint(np.array(Image.fromarray(image.astype(np.float32)).resize((200, 200), 3)))):
            assert level(numbers / 65535) == np.diff(np.unique(numbers / 65535)).min()


def test_depth_of_16_bits_has_its_own_level_whatever_is_flat_in_it():
    """Frontal boards at many distances, on a wall: they are flat, and no whole levels apart."""
    rng = np.random.default_rng(0)
    for direction in ((0.5, 0, 0.866), (0, 0, 1), (0.05, 0.02, 1)):
        numbers = np.rint(wall(direction)[0] * 65535)
        for _ in range(30):
            y, x = rng.integers(0, HEIGHT - 20), rng.integers(0, WIDTH - 20)
            numbers[y : y + 20, x : x + 20] = rng.integers(20_000, 65_536)
        for image in (numbers, np.rint(resized(numbers, 1.5))):
            assert level(image / 65535) == np.diff(np.unique(image / 65535)).min()


def test_the_level_of_numbers_that_count():
    numbers = np.array([[0.0, 5, 10], [15, 11, 20]])
    assert (level(numbers), level(numbers, numbers % 5 == 0)) == (1, 5) and level(np.ones((3, 3))) == 0
