"""Pixels without a value never become a surface: not by resampling, nor in conditions, latents or scores."""

import numpy as np
import pytest

from mmgen_jax.data import pipeline
from mmgen_jax.metrics import dense
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.pixels import center_crop, to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

DEPTH, NORMAL = MODALITIES["depth"], MODALITIES["normal"]
SHAPES = [(96, 128), (70, 53), (33, 40), (16, 24), (12, 9)]  # to 16: halved, shrunk, cropped and enlarged


def disc(height, width, share=0.25):
    """Bool [H, W], True outside a disc in the middle."""
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 + (x - width / 2) ** 2 > (share * min(height, width)) ** 2


@pytest.mark.parametrize("shape", SHAPES)
def test_a_constant_stays_constant_up_to_the_rim(shape):
    """A hole that bleeds into its rim would change the constant."""
    valid = disc(*shape)
    numbers, kept = holes.center_crop(np.where(valid, 0.7, 9.0).astype(np.float32)[..., None], valid, 16)
    np.testing.assert_allclose(numbers[kept], 0.7, atol=1e-6)
    assert 0.03 < (~kept).mean() < 0.4 and not kept[8, 8] and kept[0, 0]


@pytest.mark.parametrize("shape", SHAPES)
def test_without_holes_nothing_changes(rng, shape):
    numbers = rng.random((*shape, 3), np.float32)
    found, kept = holes.center_crop(numbers, np.ones(shape, bool), 16)
    assert kept.all()
    np.testing.assert_allclose(
        found, np.clip(center_crop(numbers, 16), numbers.min((0, 1)), numbers.max((0, 1))), atol=1e-5
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rubbish", [0.0, 1.0, -50.0, np.nan, np.inf])
def test_what_is_in_a_hole_does_not_matter(rng, shape, rubbish):
    numbers, valid = rng.random((*shape, 1), np.float32), disc(*shape)
    found = holes.center_crop(np.where(valid[..., None], numbers, rubbish), valid, 16)
    again = holes.center_crop(numbers, valid, 16)
    np.testing.assert_array_equal(found[0], again[0])
    np.testing.assert_array_equal(found[1], again[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_depth_pixels_keep_their_holes_and_their_range(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    wall = (20000 + 100 * x + 50 * y).astype(np.uint16)
    valid = disc(*shape)
    tile = DEPTH.square(np.where(valid, wall, 0)[..., None].astype(np.uint16), 16, valid)
    there = tile[DEPTH.valid(tile)]
    assert wall.min() <= there.min() and there.max() <= wall.max()
    whole = DEPTH.square(wall[..., None], 16)
    # One-sided averages at the rim lie within the pixels that they are made of: two tile pixels of the slope.
    limit = 150 * max(1, min(shape) / 16) * 2
    assert np.abs(tile.astype(int) - whole)[DEPTH.valid(tile)].max() < limit
    np.testing.assert_array_equal(DEPTH.valid(tile), holes.center_crop(wall[..., None] / 65535, valid, 16)[1])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("hole", [(128, 128, 128), (127, 127, 127), (127, 128, 128), (0, 0, 0), (255, 255, 255)])
def test_invalid_normals_stay_no_normals(shape, hole):
    valid = disc(*shape)
    image = np.where(valid[..., None], (217, 128, 217), hole).astype(np.uint8)  # (0.7, 0, 0.7)
    tile = NORMAL.square(image, 16)
    kept = NORMAL.valid(tile)
    assert 0.03 < (~kept).mean() < 0.4
    assert (tile[~kept] == 128).all()
    np.testing.assert_allclose(tile[kept].astype(int), [[217, 128, 217]] * kept.sum(), atol=1)


def test_normals_of_the_right_size_are_kept_to_the_bit(rng):
    vectors = rng.normal(size=(16, 16, 3))
    image = np.rint((vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) + 1) * 127.5).astype(np.uint8)
    image[3, 4] = 0
    tile = NORMAL.square(image, 16)
    assert (tile[3, 4] == 128).all() and not NORMAL.valid(tile)[3, 4] and NORMAL.valid(tile).sum() == 255
    tile[3, 4] = 0
    np.testing.assert_array_equal(tile, image)


def test_no_normal_has_no_direction():
    value = NORMAL.value(to_array(np.array([[[128, 128, 128], [127, 127, 128], [128, 128, 255]]], np.uint8)), Facts())
    np.testing.assert_array_equal(value[0, :2], 0)
    np.testing.assert_allclose(np.linalg.norm(value[0, 2]), 1, atol=1e-6)


def test_holes_are_filled_from_the_nearest():
    image, valid = np.arange(25).reshape(5, 5, 1), np.ones((5, 5), bool)
    valid[1:4, 0:3] = False
    found = holes.fill(image, valid)[..., 0]
    np.testing.assert_array_equal(found[valid], image[..., 0][valid])
    assert found[1, 0] == image[0, 0, 0] and found[3, 0] == image[4, 0, 0] and found[2, 2] == image[2, 3, 0]
    nothing = np.zeros((5, 5), bool)
    assert holes.fill(image, nothing) is image and holes.fill(image, ~nothing) is image


def test_a_latent_cell_is_valid_if_all_its_pixels_are():
    valid = np.ones((2, 8, 8), bool)
    valid[0, 3, 4] = False
    expected = np.ones((2, 4, 4), bool)
    expected[0, 1, 2] = False
    np.testing.assert_array_equal(holes.cells(valid, 4), expected)
    np.testing.assert_array_equal(holes.cells(valid, 8), valid)


@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf])
def test_depth_conditions_are_filled_in_and_it_is_said(capsys, rubbish):
    given = np.full((16, 16), 0.25, np.float32)
    given[:, 8:] = 0.75
    given[4:8, 0:3] = rubbish
    found = DEPTH.condition(given, 16, Facts())[0]
    assert (found[:, :8] == 0.25).all() and (found[:, 8:] == 0.75).all()
    assert "given depth (array): 4.7% of its pixels have no value" in capsys.readouterr().out


@pytest.mark.parametrize(
    "hole, dtype",
    [
        ((0, 0, 0), float),
        ((0.1, 0.1, 0.1), float),
        ((np.nan, 0, 1), float),
        ((128, 128, 128), np.uint8),
        ((0, 0, 0), "u1"),
    ],
)
def test_normal_conditions_are_filled_in_and_it_is_said(capsys, hole, dtype):
    given = np.full((16, 16, 3), (0.6, 0, 0.8))
    given = given if dtype is float else np.rint((given + 1) * 127.5).astype(dtype)
    given[4:8, 0:3] = hole
    found = NORMAL.condition(given, 16, Facts())[0]
    np.testing.assert_allclose(found, np.broadcast_to((0.6, 0, 0.8), found.shape), atol=0.01)
    assert "given normal (array): 4.7% of its pixels have no value" in capsys.readouterr().out


def test_normals_of_any_one_length_are_taken(capsys):
    found = NORMAL.condition(np.full((16, 16, 3), (0, 6e-4, 8e-4)), 16, Facts())[0]
    np.testing.assert_allclose(found, np.broadcast_to((0, 0.6, 0.8), found.shape), atol=1e-6)
    assert not capsys.readouterr().out


@pytest.mark.parametrize("name, given", [("depth", np.full((8, 8), np.nan)), ("normal", np.full((8, 8, 3), np.nan))])
def test_conditions_without_any_value_are_refused(name, given):
    with pytest.raises(UsageError, match=f"given {name} .*has (no pixel with a value|only vectors of length zero)"):
        MODALITIES[name].condition(given, 8, Facts())


def test_scores_leave_holes_out():
    """A perfect prediction is perfect, and one wrong pixel of the three quarters that count weighs a third more."""
    valid = np.ones((2, 8, 8), bool)
    valid[:, :4, :4] = False
    batch = {holes.key("depth"): valid, holes.key("normal"): valid}
    depth = np.linspace(-0.9, 0.9, 128, dtype=np.float32).reshape(2, 8, 8, 1)
    normal = np.broadcast_to(np.float32([0, 0, 1]), (2, 8, 8, 3))
    known = holes.hidden({"depth": depth, "normal": normal}, batch)
    truth = {m: MODALITIES[m].value(x, Facts()) for m, x in known.items()}
    prediction = {"depth": (depth[..., 0] + 1) / 2, "normal": np.where(valid[..., None], normal, [1, 0, 0])}
    prediction["depth"] = np.where(valid, prediction["depth"], 0.5)
    scores = dense.summary(prediction, truth, Facts())
    assert scores["depth/l1"] < 1e-6 and scores["normal/mean"] == 0
    prediction["normal"][:, 7, 7] = (1, 0, 0)
    assert dense.summary(prediction, truth, Facts())["normal/mean"] == pytest.approx(90 / 48)


def test_a_prediction_without_a_direction_is_not_right():
    truth = np.broadcast_to([0.0, 0, 1], (1, 4, 4, 3))
    assert dense.summary({"normal": np.zeros((1, 4, 4, 3))}, {"normal": truth}, Facts())["normal/mean"] == 90


@pytest.mark.parametrize("found", ["depth", 3, [3], {"depth": 1}])
def test_metadata_that_make_no_sense_are_refused(found):
    with pytest.raises(UsageError, match="the data set's metadata have holes = .*; allowed: a list of modalities"):
        holes.of({"holes": found})


def test_selected_tiles_carry_what_is_valid_only_if_the_data_set_has_holes(rng):
    from mmgen_jax.data import tiles

    depth = rng.integers(1000, 60000, (16, 16, 1)).astype(np.uint16)
    depth[2:5, 0:4] = 0
    normal = np.full((16, 16, 3), (128, 128, 255), np.uint8)
    record = tiles.encode_tile({"depth": depth, "normal": normal}, -1, "a")
    plain = pipeline.Select(("rgb", "depth"), 16).map(record)
    assert set(plain) == {"rgb", "depth", "class_id", "present"}
    np.testing.assert_array_equal(plain["depth"], depth)
    select = pipeline.Select(("rgb", "depth", "normal"), 16, ("depth", "rgb_of_others"))
    tile = select.map(record)
    assert set(tile) == {"rgb", "depth", "normal", "depth_valid", "class_id", "present"}
    np.testing.assert_array_equal(tile["depth_valid"], depth[..., 0] != 0)
    assert tile["depth"].min() >= 1000
    mirrored = pipeline.mirrored(tile, select.modalities)
    np.testing.assert_array_equal(mirrored["depth_valid"], tile["depth_valid"][:, ::-1])
    np.testing.assert_array_equal(tile["present"], [False, True, True])
    empty = tiles.encode_tile({"depth": 0 * depth, "normal": normal}, -1, "a")
    np.testing.assert_array_equal(select.map(empty)["present"], [False, False, True])


def test_fill_given_names_its_source(capsys):
    with pytest.raises(UsageError, match="given depth x.npy has no pixel with a value"):
        holes.fill_given(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4), bool), Source("given depth x.npy"))
