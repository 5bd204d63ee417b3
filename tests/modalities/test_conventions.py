"""What the numbers of label files mean: every convention gives the right pixels, or is refused in one line."""

import numpy as np
import pytest

from mmgen_jax.modalities.conventions import Axes, DepthFiles
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.system.errors import UsageError

SOURCE = Source("depth a.png")
U1, U2, F4 = np.uint8, np.uint16, np.float32


@pytest.mark.parametrize(
    "files, numbers, top, expected",
    [
        (DepthFiles(), U1([0, 1, 128, 255]), 255, [0, 257, 32896, 65535]),
        (DepthFiles(), U2([0, 1, 4096, 65535]), 65535, [0, 1, 4096, 65535]),
        (DepthFiles(), U2([0, 1, 4095]), 4095, [0, 16, 65535]),
        (DepthFiles("far"), U2([0, 1, 60000, 65535]), 65535, [65535, 65534, 5535, 0]),
        (DepthFiles("far"), U1([0, 255]), 255, [65535, 0]),
        (DepthFiles(), F4([0, 0.25, 1]), 1, [1, 16384, 65535]),  # floats may have holes, so 0 is kept for these
        (DepthFiles("far"), F4([0, 0.25, 1]), 1, [65535, 49151, 1]),
        (DepthFiles(), F4([np.nan, 0.5, np.inf, -np.inf]), 1, [0, 32768, 0, 0]),
        (DepthFiles(invalid=0), U2([0, 1, 65535]), 65535, [0, 1, 65535]),
        (DepthFiles(invalid=0), U1([0, 1, 255]), 255, [0, 257, 65535]),
        (DepthFiles("far", invalid=0), U2([0, 1, 65535]), 65535, [0, 65534, 1]),
        (DepthFiles("far", invalid=65535), U2([0, 1, 65535]), 65535, [65535, 65534, 0]),
        (DepthFiles(invalid=255), U1([0, 254, 255]), 255, [1, 254 * 257, 0]),
        (DepthFiles(invalid=-1), F4([-1, 0.5]), 1, [0, 32768]),
        # NYU: millimetres; 1 m is the nearest and 10 m the farthest, so 2 m is (1/2 - 1/10) / (1 - 1/10) = 4/9.
        (
            DepthFiles("far", 0, (1, 10), 0.001),
            U2([0, 500, 1000, 2000, 10000, 20000]),
            65535,
            [0, 65535, 65535, 29127, 1, 1],
        ),
        (DepthFiles("far", 0, (1000, 10000)), U2([0, 1000, 2000, 10000]), 65535, [0, 65535, 29127, 1]),
        (DepthFiles("far", None, (1, 10), 1.0), F4([np.nan, 1, 2, 10, 99]), 1, [0, 65535, 29127, 1, 1]),
        (DepthFiles("near", None, (100, 20)), U1([10, 20, 60, 100, 200]), 255, [0, 0, 32768, 65535, 65535]),
        (DepthFiles("near", 0, (100, 20)), U1([0, 20, 60, 100]), 255, [0, 1, 32768, 65535]),
    ],
)
def test_numbers_become_the_right_pixels(files, numbers, top, expected):
    stored, valid = files.stored(numbers[None], top, SOURCE)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored[0, :, 0], expected)
    if valid is not None:
        np.testing.assert_array_equal(valid[0], stored[0, :, 0] != 0)
    assert (valid is None) == (files.invalid is None and numbers.dtype.kind == "u")


def test_an_image_of_holes_only():
    stored, valid = DepthFiles(invalid=0).stored(np.zeros((4, 4), np.uint16), 65535, SOURCE)
    assert not stored.any() and not valid.any()


def test_floats_of_an_unknown_range_are_refused():
    with pytest.raises(UsageError, match="depth a.png has values from 0.5 to 7.25; allowed: .*--depth_range=NEAR,FAR"):
        DepthFiles().stored(F4([[0.5, 7.25, np.nan]]), 1, SOURCE)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("deep",), "depth_is is 'deep'"),
        (("near", float("nan")), "depth_invalid is nan; allowed: a finite number, NaN is invalid always"),
        (("near", float("inf")), "depth_invalid is inf"),
        (("far", 0, (10, 1)), "depth_range is 10,1; allowed with depth_is=far: 0 < NEAR < FAR"),
        (("far", 0, (0, 1)), "depth_range is 0,1"),
        (("far", 0, (1, 1)), "depth_range is 1,1"),
        (("far", 0, (1, float("inf"))), "depth_range is 1,inf"),
        (("near", 0, (1, 10)), "depth_range is 1,10; allowed with depth_is=near: NEAR > FAR"),
        (("near", 0, (float("nan"), 1)), "depth_range is nan,1"),
        (("far", 0, (1, 10), 0), "depth_metres is 0; allowed: above 0"),
        (("far", 0, (1, 10), float("nan")), "depth_metres is nan"),
        (("far", 0, None, 0.001), "depth_metres needs depth_is=far and depth_range=NEAR,FAR in metres"),
        (("near", 0, (10, 1), 0.001), "depth_metres needs depth_is=far"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        DepthFiles(*arguments)
    assert "\n" not in str(caught.value)


def test_a_data_set_says_its_unit():
    metric = DepthFiles("far", 0, (1, 10), 0.001).metadata
    assert metric["depth_range"] == (1, 10) and "inverse" in metric["depth"] and metric["depth_metres"] == 0.001
    unknown = DepthFiles("far", 0, (1000, 10000)).metadata
    assert "depth_range" not in unknown and unknown["depth_numbers"] == (1000, 10000)
    assert DepthFiles().metadata == {"depth_is": "near", "depth": "relative within each image, larger = nearer"}


@pytest.mark.parametrize(
    "text, expected",
    [
        ("x,y,z", (0.6, 0.0, 0.8)),
        ("x,-y,-z", (0.6, 0.0, -0.8)),
        ("-x,y,z", (-0.6, 0.0, 0.8)),
        ("z,y,x", (0.8, 0.0, 0.6)),
        ("y,-z,x", (0.0, -0.8, 0.6)),
        ("-y,-x,-z", (0.0, -0.6, -0.8)),
    ],
)
def test_axes_are_turned(text, expected):
    image = np.rint((np.broadcast_to((0.6, 0, 0.8), (2, 2, 3)) + 1) * 127.5).astype(np.uint8)
    np.testing.assert_allclose(to_array(Axes(text).stored(image))[0, 0], expected, atol=0.005)


def test_turning_twice_changes_nothing(rng):
    image = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    np.testing.assert_array_equal(Axes("-x,-y,-z").stored(Axes("-x,-y,-z").stored(image)), image)
    assert Axes("x,-y,-z").then(Axes("x,-y,-z")) == Axes() and Axes("y,-z,x").then(Axes("-x,y,-z")) == Axes("-y,-z,-x")


@pytest.mark.parametrize(
    "text", ["", "x", "x,y", "x,x,z", "x,y,z,x", "x, y, z", "+x,y,z", "--x,y,z", "X,Y,Z", "x,y,w", "x;y;z"]
)
def test_axes_that_are_none(text):
    with pytest.raises(
        UsageError, match="normal_axes is .*; allowed: x, y and z once each, with a minus or not: x,-y,-z"
    ):
        Axes(text)
