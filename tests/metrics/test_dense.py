"""Dense metrics against closed forms and counts by hand."""

import itertools
import tracemalloc

import numpy as np
import pytest

from mmgen_jax.metrics import dense
from mmgen_jax.modalities.depth import affine_fit, align_depth, depth_errors
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import (
    ANGLES,
    added,
    adjusted_rand,
    confusion,
    iou,
    matched_iou,
    normal_errors,
    over_images,
)
from mmgen_jax.modalities.pixels import nearest_color
from mmgen_jax.system.errors import NotFinite

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
    scale, shift = np.array([2.0, 0.5, 7.0]), np.array([1.0, 0.0, -3.0])
    prediction = (truth - shift[:, None, None]) / scale[:, None, None]
    found = affine_fit(prediction, truth)
    np.testing.assert_allclose(found, (scale, shift), atol=1e-12)


def test_affine_fit_is_least_squares_over_valid_pixels(rng):
    prediction, truth = rng.normal(size=(2, 1, 7, 5))
    truth += prediction
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
    aligned = align_depth((1 / depth - shift) / scale, depth, RANGE)
    errors = depth_errors(aligned, depth)
    np.testing.assert_allclose(errors["absrel"], 0, atol=1e-9)
    np.testing.assert_array_equal(errors["delta1"], 1)


@pytest.mark.parametrize(("error", "delta1"), [(0.1, 1), (-0.1, 1), (0.24, 1), (0.26, 0), (-0.21, 0)])
def test_constant_relative_error(rng, error, delta1):
    depth = depths(rng)
    scores = depth_errors(depth * (1 + error), depth)
    np.testing.assert_allclose(scores["absrel"], abs(error))
    np.testing.assert_array_equal(scores["delta1"], delta1)


def test_aligned_depth_stays_in_the_range_of_the_data_set(rng):
    depth = depths(rng)
    aligned = align_depth(rng.normal(size=depth.shape) ** 9, depth, (5.2, 5.9))
    np.testing.assert_allclose((aligned.min(), aligned.max()), (5.2, 5.9))


def test_invalid_pixels_do_not_count(rng):
    depth = depths(rng, 2)
    prediction, valid = 1 / depth, np.ones(depth.shape, bool)
    prediction[0, 0, 0], depth[0, 0, 0], valid[0, 0, 0], valid[1] = 99, np.inf, False, False
    errors = depth_errors(align_depth(prediction, depth, RANGE, valid), depth, valid)
    assert errors["absrel"][0] < 1e-9 and np.isnan(errors["absrel"][1])
    assert over_images(errors["absrel"], valid).value < 1e-9


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
    found = iou(matrix)
    np.testing.assert_array_equal(found.total, [1, 3, 0, 0])
    np.testing.assert_array_equal(found.count, [2, 5, 1, 0])
    assert found.value == pytest.approx((1 / 2 + 3 / 5) / 3)
    assert (found + found).value == found.value and np.isnan(iou(matrix[3:, 3:]).value)


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


def test_unknown_modalities_have_no_scores(rng):
    values = {"heat": rng.random((2, 4, 4))}
    assert dense.summary(values, values, Facts()) == {}


GROUPED = {"mask/ari", "mask/matched_iou", "mask/boundary/f", "mask/boundary/recall", "mask/boundary/precision"}


def test_masks_without_a_palette_are_scored_by_their_groups(rng):
    """Three bands of 8 x 4, 8 x 4 and 8 x 8 pixels. A network paints them in other colours, with some noise."""
    ids = np.broadcast_to(np.repeat([0, 1, 2, 2], 4), (1, 8, 16))
    colours = np.array([[250, 20, 30], [20, 240, 40], [30, 30, 250], [220, 210, 20]], np.uint8)
    mask = colours[ids]

    def scores(painted, noise=0):
        found = np.clip(painted + rng.normal(0, noise, painted.shape), 0, 255).astype(np.uint8)
        return dense.summary({"mask": found}, {"mask": mask}, Facts())

    exact = scores(mask)
    assert exact.keys() == GROUPED and set(exact.values()) == {1}
    assert set(scores(255 - mask, noise=5).values()) == {1}
    merged = scores(colours[[3, 3, 0]][ids], noise=5)  # the first two bands are one region: it is half of a match
    assert merged["mask/matched_iou"] == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert (merged["mask/boundary/precision"], merged["mask/boundary/recall"]) == (1, 1 / 2)
    pairs = 2 * 496 + 2016, 2 * 2016, 128 * 127 / 2  # of 32, 32 and 64 pixels; of 64 and 64; of all
    chance = pairs[0] * pairs[1] / pairs[2]
    assert merged["mask/ari"] == pytest.approx((pairs[0] - chance) / (sum(pairs[:2]) / 2 - chance))


@pytest.mark.parametrize("slope", [-3.0, -1.0, -0.01, 0.0])
def test_depth_that_is_upside_down_fits_no_better_than_a_constant(rng, slope):
    """For s <= 0 the least squares fit with s >= 0 is s = 0, b = the mean: of 1/z = 0.2 and 0.4, 0.3 for all pixels."""
    truth = np.array([[[0.2, 0.4]]])
    np.testing.assert_allclose(affine_fit(slope * truth + 5, truth), [[0], [0.3]], atol=1e-12)
    found = align_depth(slope * truth + 5, 1 / truth, RANGE)
    np.testing.assert_allclose(found, 1 / 0.3)
    errors = depth_errors(found, 1 / truth)  # 5 m and 2.5 m are taken for 3.333 m
    np.testing.assert_allclose([errors["absrel"][0], errors["delta1"][0]], [(1 / 3 + 1 / 3) / 2, 0])


def test_the_fit_is_the_best_that_is_not_upside_down(rng):
    """Against a search over scales, each with its best shift."""
    prediction, truth = rng.normal(size=(2, 6, 4, 4))
    scale, shift = affine_fit(prediction, truth)
    assert (scale == 0).any() and (scale > 0).any()

    def loss(s, b):
        return ((s[:, None, None] * prediction + b[:, None, None] - truth) ** 2).mean((1, 2))

    for s in np.linspace(0, 3, 61):
        tried = np.full(6, s)
        best = truth.mean((1, 2)) - s * prediction.mean((1, 2))
        assert (loss(scale, shift) <= loss(tried, best) + 1e-12).all()


def perfect(rng, count=8):
    relative = rng.random((count, 6, 6))
    regions = ("background", "ground", "object", "distractor")
    values = {
        "rgb": rng.integers(0, 256, (count, 6, 6, 3), np.uint8),
        "depth": relative,
        "normal": units(rng, (count, 6, 6)),
        "mask": rng.integers(0, 4, (count, 6, 6)),
    }
    return values, Facts(regions=regions, depth_range=RANGE)


@pytest.mark.parametrize("modality", ["depth", "normal"])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [np.s_[1:], np.s_[3], np.s_[3, 2, 2]])
def test_predictions_that_are_not_numbers_are_no_score(rng, modality, number, where):
    truth, facts = perfect(rng)
    for found in (facts, Facts(regions=facts.regions)):  # with metres and without
        prediction = truth | {modality: truth[modality].copy()}
        prediction[modality][where] = number
        with pytest.raises(NotFinite, match=f"the predicted {modality} is NaN or infinite in [17] images, the first"):
            dense.summary(prediction, truth, found)


def test_a_nan_that_nobody_looked_for_makes_the_average_nan(rng):
    truth, _ = perfect(rng)
    prediction, valid = truth["normal"].copy(), np.ones((8, 6, 6), bool)
    prediction[2, 1, 1] = np.nan
    errors = normal_errors(prediction, truth["normal"])
    assert np.isnan(over_images(errors["mean"], valid).value) and np.isnan(errors["mean"]).sum() == 1
    valid[2] = False
    assert over_images(errors["mean"], valid).value < 1e-6


@pytest.mark.parametrize("modality", ["depth", "normal"])
def test_holes_of_the_truth_are_left_out(rng, modality):
    """Scores of the other pixels, whatever is predicted in the holes; an image of holes alone counts nowhere."""
    truth, facts = perfect(rng)
    hole = rng.random((8, 6, 6)) < 0.3
    hole[5] = True
    worse = {"depth": truth["depth"] ** 2, "normal": rotated(truth["normal"], 12, rng)}[modality]
    prediction = truth | {modality: np.where(hole.reshape(hole.shape + (1,) * (worse.ndim - 3)), 0.5, worse)}
    truth = truth | {modality: truth[modality].copy()}
    truth[modality][hole] = np.nan
    scores = dense.averages(prediction, truth, facts)
    if modality == "normal":
        assert scores["normal/mean"].value == pytest.approx(12) and scores["normal/mean"].count == 7
    else:
        kept = [i for i in range(8) if i != 5]
        z = 1 / (truth["depth"] * (1 / RANGE[0] - 1 / RANGE[1]) + 1 / RANGE[1])
        expected = []
        for i in kept:
            p, q = worse[i][~hole[i]], 1 / z[i][~hole[i]]
            fitted = 1 / np.clip(np.polyval(np.polyfit(p, q, 1), p), 1 / RANGE[1], 1 / RANGE[0])
            expected.append(np.mean(np.abs(fitted * q - 1)))
        assert scores["depth/absrel"].value == pytest.approx(np.mean(expected)) and scores["depth/absrel"].count == 7


def test_scores_of_batches_add_up_to_those_of_all(rng):
    truth, facts = perfect(rng)
    prediction = {
        "rgb": truth["rgb"] ^ 5,
        "depth": truth["depth"] ** 2,
        "normal": rotated(truth["normal"], 9, rng),
        "mask": np.where(rng.random((8, 6, 6)) < 0.2, 3, truth["mask"]),
    }
    present = {"depth": np.arange(8) != 2, "mask": np.arange(8) < 7}
    total = {}
    for part in (slice(0, 3), slice(3, 4), slice(4, 8)):
        cut = [{m: x[part] for m, x in values.items()} for values in (prediction, truth, present)]
        total = added(total, dense.averages(cut[0], cut[1], facts, cut[2]))
    whole = dense.summary(prediction, truth, facts, present)
    assert {key: average.value for key, average in total.items()} == pytest.approx(whole)


def direction(x, y, z):
    return np.broadcast_to(np.array([x, y, z]) / np.linalg.norm([x, y, z]), (1, 2, 2, 3))


@pytest.mark.parametrize(
    ("predicted", "angle"),
    [
        ((0.6, 0.0, 0.8), 0.0),
        ((3.0, 0.0, 4.0), 0.0),  # of another length
        ((0.0, 0.6, 0.8), np.degrees(np.arccos(0.64))),  # x and y exchanged
        ((-0.6, 0.0, 0.8), 2 * np.degrees(np.arcsin(0.6))),  # x turned around
        ((0.8, 0.0, 0.6), np.degrees(np.arccos(0.96))),  # x and z exchanged
        ((-0.6, 0.0, -0.8), 180.0),
        ((0.0, 0.0, 0.0), 90.0),  # no direction is nearer to none than another
    ],
)
def test_normals_of_other_axes_and_lengths_by_hand(predicted, angle):
    truth = direction(0.6, 0.0, 0.8)
    scores = dense.summary({"normal": np.broadcast_to(predicted, truth.shape)}, {"normal": truth}, Facts())
    assert scores["normal/mean"] == scores["normal/median"] == pytest.approx(angle, abs=1e-9)


def test_masks_by_hand_when_labels_are_permuted_or_one_region_is_all():
    """Of 4 pixels 2 are ground, 1 object and 1 distractor."""
    truth, regions = np.array([[[1, 1], [2, 3]]]), ("background", "ground", "object", "distractor")

    def scores(*ids):
        return dense.summary({"mask": np.array(ids).reshape(1, 2, 2)}, {"mask": truth}, Facts(regions=regions))

    assert scores(1, 1, 3, 2)["mask/miou"] == pytest.approx(1 / 3)  # object and distractor exchanged
    one = scores(1, 1, 1, 1)  # ground everywhere: 2 of 4 pixels, and the others are missed
    assert one["mask/miou"] == pytest.approx(1 / 6) and one["mask/iou/ground"] == 1 / 2
    assert np.isnan(one["mask/iou/background"]) and one["mask/iou/object"] == 0
    assert scores(0, 0, 0, 0)["mask/miou"] == scores(0, 0, 0, 0)["mask/iou/background"] == 0
    missed = scores(1, 1, 1, 3)  # the single pixel of an object
    assert [missed[f"mask/iou/{name}"] for name in regions[1:]] == pytest.approx([2 / 3, 0, 1])


def test_depth_by_hand_when_it_is_constant_or_known_in_one_pixel():
    """1/z of 0.2 and 0.4: whatever constant is predicted, 0.3 fits best, 3.33 m in place of 5 m and 2.5 m."""
    facts, relative = Facts(depth_range=RANGE), np.array([[[0.25, 0.75]]])  # of 1/z from 0.1 to 0.5
    for constant in (0.0, 0.3, 1.0):
        scores = dense.summary({"depth": np.full_like(relative, constant)}, {"depth": relative}, facts)
        assert (scores["depth/absrel"], scores["depth/delta1"]) == (pytest.approx(1 / 3), 0)
        # 5 m and 2.5 m are taken for 3.333 m, and after a fit in depth for 3.75 m.
        assert scores["depth/rmse"] == pytest.approx(np.sqrt(((5 / 3) ** 2 + (5 / 6) ** 2) / 2))
        assert scores["depth/silog"] == pytest.approx(100 * np.log(2) / 2) and scores["depth/delta3"] == 1
        assert scores["depth/fit_in_depth/rmse"] == pytest.approx(1.25)
        assert scores["depth/fit_in_depth/absrel"] == pytest.approx((1.25 / 5 + 1.25 / 2.5) / 2)
    unknown = dense.summary({"depth": np.zeros_like(relative)}, {"depth": relative}, Facts())
    assert unknown == {"depth/l1": pytest.approx(0.25)}
    alone = np.where([True, False], relative, np.nan)
    assert dense.averages({"depth": relative}, {"depth": alone}, facts)["depth/absrel"].count == 1
    nothing = dense.averages({"depth": relative}, {"depth": np.full_like(relative, np.nan)}, facts)["depth/absrel"]
    assert nothing.count == 0 and np.isnan(nothing.value)


def test_images_of_which_there_are_none_one_or_too_few(rng):
    truth, facts = perfect(rng)
    none = {m: x[:0] for m, x in truth.items()}
    assert all(average.count.sum() == 0 for average in dense.averages(none, none, facts).values())
    one = dense.averages(*[{m: x[:1] for m, x in truth.items()}] * 2, facts)
    assert one["rgb/psnr"].value == 100 and one["normal/mean"].count == 1
    for m, x in truth.items():
        for other in (x[:1], x[:, :3], x[..., None]):  # which NumPy would stretch to the truth's shape
            with pytest.raises(ValueError, match=f"predicted {m} has shape .*: must be that of the truth"):
                dense.averages({m: other}, truth, facts)
        with pytest.raises(ValueError, match=f"present has shape .* of {m}: must be"):
            dense.averages(truth, truth, facts, {m: np.ones(1, bool)})


@pytest.mark.parametrize("regions", [150, 257, 1000])
def test_masks_of_many_regions_are_scored_and_read_in_little_memory(rng, regions):
    palette = np.unique(rng.integers(0, 256, (4 * regions, 3), np.uint8), axis=0)
    palette = rng.permutation(palette)[:regions]
    ids = rng.integers(0, regions, (4, 64, 64))
    tracemalloc.start()
    np.testing.assert_array_equal(nearest_color(palette[ids], palette), ids)
    assert tracemalloc.get_traced_memory()[1] < 80e6  # all distances at once are 4 * 64 * 64 * regions * 3 floats
    tracemalloc.stop()
    names = tuple(f"r{i}" for i in range(regions))
    wrong = np.where(ids == 7, 8, ids)
    scores = dense.summary({"mask": wrong}, {"mask": ids}, Facts(palette, names))
    eights = (ids == 8).sum()
    assert scores["mask/iou/r7"] == 0 and scores["mask/iou/r9"] == 1
    assert scores["mask/iou/r8"] == pytest.approx(eights / (eights + (ids == 7).sum()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affine_fit(np.zeros((1, 2, 2)), np.zeros((1, 2, 3))), "prediction has shape (1, 2, 2)"),
        (lambda: depth_errors(*np.ones((2, 1, 2, 2)), np.ones((2, 2), bool)), "valid has shape (2, 2)"),
        (lambda: depth_errors(*np.full((2, 1, 2, 2), -1.0)), "depth is -1 m somewhere"),
        (lambda: confusion(np.full((1, 1, 1), 4), np.zeros((1, 1, 1), int), 4), "region ids 4 to 4"),
    ],
)
def test_error_messages(call, message):
    with pytest.raises(ValueError) as error:
        call()
    assert message in str(error.value) and "must be" in str(error.value)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ([0, 0, 1, 1], [1, 1, 0, 0], 1.0),  # other names
        ([0, 0, 1, 2], [0, 0, 1, 1], 4 / 7),  # (1 - 2/6) / (1.5 - 2/6); scikit-learn's documentation has 0.57
        ([0, 1, 0, 1], [0, 0, 1, 1], -0.5),  # no pair in common, 2/3 by chance: (0 - 2/3) / (2 - 2/3)
        ([0, 1, 2, 3], [0, 0, 0, 0], 0.0),
        ([0, 0, 0, 0], [3, 3, 3, 3], 1.0),  # one group each
        ([0], [1], 1.0),
        ([], [], np.nan),
    ],
)
def test_adjusted_rand_index_by_hand(prediction, truth, expected):
    ids = [np.array([[values + [9] * (4 - len(values))]]) for values in (prediction, truth)]
    found = adjusted_rand(*ids, np.arange(4)[None, None] < len(truth))
    np.testing.assert_allclose(found, [expected], atol=1e-12)


def test_adjusted_rand_index_counts_pairs_of_pixels(rng):
    """By its definition: agreements of all pairs of pixels, less those expected of random groups of the same sizes."""
    truth = rng.integers(0, 3, (2, 4, 5))
    prediction = np.where(rng.random(truth.shape) < 0.4, rng.integers(0, 4, truth.shape), truth)
    expected = []
    for p, t in zip(prediction.reshape(2, -1), truth.reshape(2, -1), strict=True):
        first, second = np.triu_indices(20, 1)
        a, b = p[first] == p[second], t[first] == t[second]
        chance = a.mean() * b.mean()
        expected.append(((a & b).mean() - chance) / ((a.mean() + b.mean()) / 2 - chance))
    np.testing.assert_allclose(adjusted_rand(prediction, truth), expected)
    facts = Facts(regions=("background", "object", "distractor", "ground"))
    scores = dense.summary({"mask": prediction}, {"mask": truth}, facts)
    assert scores["mask/ari"] == pytest.approx(np.mean(expected)) and scores["mask/objects/ari"] <= 1


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        ([5, 5, 6, 6], [1, 1, 0, 0], 1.0),  # other names
        ([7, 7, 7, 7], [0, 0, 1, 1], (2 / 4 + 0) / 2),  # one region for two: the other has no partner
        ([0, 1, 2, 2], [0, 0, 0, 0], 2 / 4),  # leftovers count nothing, but their pixels are missing
        ([0, 1, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1], (2 / 4 + 2 / 3) / 2),  # not 1/3 and 1/5
        ([0], [1], 1.0),
        ([], [], np.nan),
    ],
)
def test_matched_iou_by_hand(prediction, truth, expected):
    ids = [np.array([[values + [9] * (6 - len(values))]]) for values in (prediction, truth)]
    found = matched_iou(*ids, np.arange(6)[None, None] < len(truth))
    np.testing.assert_allclose(found, [expected], atol=1e-12)


def test_matched_iou_is_the_best_of_all_matches(rng):
    """By trying all permutations; regions that are not there fill up the smaller side."""
    truth, prediction = rng.integers(0, 3, (6, 4, 5)), rng.integers(0, 4, (6, 4, 5))
    expected = []
    for p, t in zip(prediction, truth, strict=True):
        shares = [
            [np.sum((p == k) & (t == i)) / max(np.sum((p == k) | (t == i)), 1) for k in range(4)] for i in range(3)
        ]
        sums = [sum(shares[i][k] for i, k in enumerate(order)) for order in itertools.permutations(range(4), 3)]
        expected.append(max(sums) / len(np.unique(t)))
    np.testing.assert_allclose(matched_iou(prediction, truth), expected)


@pytest.mark.parametrize(("shift", "f"), [(0, 1), (1, 1), (-1, 1), (2, 0), (-2, 0)])
def test_borders_of_masks_may_be_one_pixel_off_in_small_images(shift, f):
    columns = np.broadcast_to(np.arange(32), (2, 32, 32))
    masks = [np.where(np.arange(2)[:, None, None], columns >= edge, 0).astype(int) for edge in (10 + shift, 10)]
    scores = dense.averages({"mask": masks[0]}, {"mask": masks[1]}, Facts(regions=("background", "ground")))
    assert scores["mask/boundary/f"].value == f and scores["mask/boundary/f"].count == 1  # the first has no borders
    none = dense.summary({"mask": 0 * masks[0]}, {"mask": masks[1]}, Facts(regions=("background", "ground")))
    assert (none["mask/boundary/f"], none["mask/boundary/recall"]) == (0, 0)
    assert np.isnan(none["mask/boundary/precision"])


def test_details_are_left_out_of_terminals():
    names = ("depth/log10", "depth/objects/silog", "depth/fit_in_depth/rmse", "mask/boundary/recall")
    assert all(map(dense.is_detail, names))
    shown = ("depth/rmse", "depth/fit_in_depth/absrel", "mask/boundary/f", "boundary/rgb/recall", "mask/iou/log10")
    assert not any(map(dense.is_detail, shown))
