"""Dense metrics against closed forms and counts by hand."""

import numpy as np
import pytest

from mmgen_jax.metrics import dense
from mmgen_jax.modalities.depth import affine_fit, align_depth, depth_errors
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import ANGLES, confusion, iou, mean, normal_errors

RANGE = (2.0, 10.0)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def depths(rng, count=3, size=6):
    return rng.uniform(2.0, 10.0, (count, size, size))


def units(rng, shape):
    vectors = rng.normal(size=(*shape, 3))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def rotated(vectors, degrees, rng):
    """Each vector turned by `degrees` about an axis across it."""
    across = np.cross(vectors, units(rng, vectors.shape[:-1]))
    across /= np.linalg.norm(across, axis=-1, keepdims=True)
    return np.cos(np.radians(degrees)) * vectors + np.sin(np.radians(degrees)) * across


def test_affine_fit_recovers_scale_and_shift_of_each_image(rng):
    truth = rng.normal(size=(3, 5, 4))
    scale, shift = np.array([2.0, -0.5, 7.0]), np.array([1.0, 0.0, -3.0])
    prediction = (truth - shift[:, None, None]) / scale[:, None, None]
    found = affine_fit(prediction, truth)
    np.testing.assert_allclose(found, (scale, shift), atol=1e-12)


def test_affine_fit_is_least_squares_over_valid_pixels(rng):
    prediction, truth = rng.normal(size=(2, 1, 7, 5))
    valid = rng.random((1, 7, 5)) < 0.6
    truth[~valid] = np.nan
    expected = np.polyfit(prediction[valid], truth[valid], 1)
    np.testing.assert_allclose(np.concatenate(affine_fit(prediction, truth, valid)), expected, rtol=1e-10)


def test_affine_fit_of_constant_and_of_nothing():
    truth = np.array([[[1.0, 3.0]], [[1.0, 3.0]]])
    valid = np.array([[[True, True]], [[False, False]]])
    scale, shift = affine_fit(np.full_like(truth, 0.7), truth, valid)
    assert (scale[0], shift[0]) == (0, 2) and np.isnan(shift[1])


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.3, 2.0), (40.0, -1.0)])
def test_depth_right_up_to_scale_and_shift_has_no_error(rng, scale, shift):
    depth = depths(rng)
    aligned = align_depth((1 / depth - shift) / scale, depth)
    errors = depth_errors(aligned, depth)
    np.testing.assert_allclose(errors["absrel"], 0, atol=1e-9)
    np.testing.assert_array_equal(errors["delta1"], 1)


@pytest.mark.parametrize(("error", "delta1"), [(0.1, 1), (-0.1, 1), (0.24, 1), (0.26, 0), (-0.21, 0)])
def test_constant_relative_error(rng, error, delta1):
    depth = depths(rng)
    scores = depth_errors(depth * (1 + error), depth)
    np.testing.assert_allclose(scores["absrel"], abs(error))
    np.testing.assert_array_equal(scores["delta1"], delta1)


def test_aligned_depth_stays_in_the_range_of_the_truth(rng):
    depth = depths(rng)
    aligned = align_depth(rng.normal(size=depth.shape), depth)
    assert depth.min() - 1e-9 <= aligned.min() and aligned.max() <= depth.max() + 1e-9


def test_invalid_pixels_do_not_count(rng):
    depth = depths(rng, 2)
    prediction, valid = 1 / depth, np.ones(depth.shape, bool)
    prediction[0, 0, 0], depth[0, 0, 0], valid[0, 0, 0], valid[1] = 99, np.inf, False, False
    errors = depth_errors(align_depth(prediction, depth, valid), depth, valid)
    assert errors["absrel"][0] < 1e-9 and np.isnan(errors["absrel"][1])
    assert mean(errors["absrel"]) < 1e-9


@pytest.mark.parametrize("degrees", [0.0, 1e-4, 10.0, 22.4, 29.0, 90.0, 179.0])
def test_rotated_normals_have_that_angle(rng, degrees):
    truth = units(rng, (2, 4, 4))
    errors = normal_errors(rotated(truth, degrees, rng), truth)
    np.testing.assert_allclose(errors["mean"], degrees, atol=1e-7)
    np.testing.assert_allclose(errors["median"], degrees, atol=1e-7)
    for limit in ANGLES:
        np.testing.assert_array_equal(errors[f"under_{limit:g}"], degrees < limit)


def test_normals_of_a_part_of_the_image(rng):
    truth = units(rng, (1, 4, 4))
    prediction, valid = truth.copy(), np.zeros((1, 4, 4), bool)
    valid[0, :2] = True
    prediction[0, 2:] = -truth[0, 2:]
    prediction[0, 0] = rotated(truth[0, 0], 20, rng)
    errors = normal_errors(prediction, truth, valid)
    np.testing.assert_allclose([errors["mean"][0], errors["under_11.25"][0]], [10, 0.5])


def test_iou_by_hand():
    truth = np.array([[[0, 0, 1], [1, 1, 1]]])
    prediction = np.array([[[0, 1, 1], [1, 1, 2]]])
    matrix = confusion(prediction, truth, 4)
    np.testing.assert_array_equal(matrix, [[1, 1, 0, 0], [0, 3, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    # Region 2 is predicted but not there, region 3 neither: that one is left out of the mean.
    np.testing.assert_allclose(iou(matrix), [1 / 2, 3 / 5, 0, np.nan])
    assert mean(iou(matrix)) == pytest.approx((1 / 2 + 3 / 5) / 3)


def test_summary_averages_images_and_names_everything(rng):
    depth, mask = depths(rng, 4), rng.integers(0, 4, (4, 6, 6))
    relative = (1 / depth - 1 / RANGE[1]) / (1 / RANGE[0] - 1 / RANGE[1])
    normal = units(rng, (4, 6, 6))
    truth = {"depth": relative, "normal": normal, "mask": mask, "rgb": np.zeros((4, 6, 6, 3), np.uint8)}
    prediction = truth | {"normal": rotated(normal, 12, rng), "rgb": np.full((4, 6, 6, 3), 51, np.uint8)}
    prediction["normal"][3] = -normal[3]  # absent below
    present = {"normal": np.array([True, True, True, False])}
    regions = ("background", "ground", "object", "distractor")
    scores = dense.summary(prediction, truth, Facts(regions=regions, depth_range=RANGE), present)
    assert scores["depth/absrel"] == pytest.approx(0, abs=1e-9) and scores["depth/objects/delta1"] == 1
    assert scores["normal/mean"] == pytest.approx(12) and scores["normal/objects/under_11.25"] == 0
    assert scores["mask/miou"] == scores["mask/iou/distractor"] == 1
    assert scores["rgb/psnr"] == pytest.approx(-20 * np.log10(0.2))
    unknown = dense.summary({"depth": relative}, {"depth": relative}, Facts())
    assert unknown == {"depth/l1": pytest.approx(0, abs=1e-9)}


def test_colours_of_no_fixed_meaning_and_unknown_modalities_have_no_scores(rng):
    values = {"mask": rng.integers(0, 256, (2, 4, 4, 3), np.uint8), "heat": rng.random((2, 4, 4))}
    assert dense.summary(values, values, Facts()) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affine_fit(np.zeros((1, 2, 2)), np.zeros((1, 2, 3))), "prediction has shape (1, 2, 2)"),
        (lambda: depth_errors(*np.ones((2, 1, 2, 2)), np.ones((2, 2), bool)), "valid has shape (2, 2)"),
        (lambda: confusion(np.full((1, 1, 1), 4), np.zeros((1, 1, 1), int), 4), "region ids 4 to 4"),
    ],
)
def test_error_messages(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value) and "must be" in str(error.value)
