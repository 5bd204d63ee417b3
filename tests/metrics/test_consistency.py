"""Consistency: analytic surfaces, marks by hand, and rendered scenes against shuffled ones."""

import numpy as np
import pytest

from mmgen_jax.data.shapes.render import pixel_rays, render
from mmgen_jax.data.shapes.scenes import FOV_DEGREES
from mmgen_jax.data.shapes.single import DEPTH_RANGE
from mmgen_jax.metrics import consistency
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import Camera, angle, depth_to_relative, normals_from_depth
from mmgen_jax.modalities.mask import REGIONS

CAMERA = Camera(FOV_DEGREES, *DEPTH_RANGE)
FACTS = Facts(regions=REGIONS, fov_degrees=FOV_DEGREES, depth_range=DEPTH_RANGE)


@pytest.fixture(scope="module")
def scenes():
    scene = render(0, "test", np.arange(64), 32)
    depth = depth_to_relative(scene["depth"], DEPTH_RANGE)
    return {"rgb": scene["rgb"], "depth": depth, "normal": scene["normal"], "mask": scene["mask"].astype(int)}


@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 0.9, 0.5), (-0.6, 0.2, 0.7), (0.3, -0.5, 0.9)])
def test_normals_of_a_plane_are_exact(normal):
    normal = np.array(normal) / np.linalg.norm(normal)
    inverse = np.einsum("i,ihw->hw", normal, pixel_rays(16)) / -3.0  # n.P = -3 m
    # A plane seen from behind has negative 1/z somewhere; these do not matter to the derivative.
    found = normals_from_depth(inverse[None], FOV_DEGREES)
    np.testing.assert_allclose(found, np.broadcast_to(normal, found.shape), atol=1e-9)


def test_normals_of_a_sphere():
    rays, center, radius = pixel_rays(96), np.array([0.2, -0.1, -5.0]), 1.0
    toward, square = np.einsum("i,ihw->hw", center, rays), (rays**2).sum(0)
    inside = toward**2 - square * (center @ center - radius**2)
    z = (toward - np.sqrt(np.maximum(inside, 0))) / square
    truth = np.moveaxis(z * rays - center[:, None, None], 0, -1) / radius
    found = normals_from_depth(1 / z[None], FOV_DEGREES)[0]
    # Away from the silhouette, where depth falls off without bound.
    facing = (truth * -np.moveaxis(rays, 0, -1)).sum(-1) / np.sqrt(square)
    where = (inside > 0) & (facing > 0.5)
    assert where.sum() > 500
    assert angle(found, truth)[where].max() < 1.0


def test_smooth_pixels_keep_off_depth_jumps_and_region_boundaries():
    inverse = np.full((1, 7, 9), 0.2)
    inverse[:, :, 4:] = 0.1
    smooth = consistency.smooth_pixels(inverse)
    np.testing.assert_array_equal(smooth[0, 3], [0, 1, 1, 0, 0, 1, 1, 1, 0])
    assert not smooth[0, 0].any() and not smooth[0, -1].any()
    regions = np.zeros((1, 7, 9), int)
    regions[:, 4:] = 1
    smooth = consistency.smooth_pixels(np.full((1, 7, 9), 0.2), regions)
    np.testing.assert_array_equal(smooth[0, :, 4], [0, 1, 0, 0, 0, 1, 0])


def test_masks_of_one_region_do_not_raise_the_mean_of_the_others(scenes):
    """Half of the samples have the right mask and half have none: the mean is half of that of right ones."""
    flat = scenes | {"mask": np.where(np.arange(64)[:, None, None] % 2, 0, scenes["mask"])}
    right = consistency.averages({m: x[::2] for m, x in scenes.items()}, None, FACTS)
    found = consistency.averages(flat, None, FACTS)
    for key in ("boundary/rgb/f", "boundary/geometry/f"):
        assert found[key].count == 64 and found[key].value == pytest.approx(right[key].value / 2)


def test_normals_against_depth_by_hand_in_other_axes_and_lengths():
    """A wall turned to the right by 30 degrees: its normals mirrored are off by 60, in x and y by arccos(3/4)."""
    normal = np.array([0.5, 0, np.sqrt(3) / 2])
    inverse = (np.einsum("i,ihw->hw", normal, pixel_rays(16)) / -5.0)[None]
    depth = (inverse - 1 / DEPTH_RANGE[1]) / (1 / DEPTH_RANGE[0] - 1 / DEPTH_RANGE[1])
    for axes, angle_ in (([1, 1, 1], 0), ([-1, 1, 1], 60), ([9, 9, 9], 0), ([-1, -1, -1], 180)):
        given = np.broadcast_to(normal * axes, (1, 16, 16, 3))
        found = consistency.depth_normal_angle(depth, given, CAMERA)
        assert found["angle"] == pytest.approx(angle_, abs=1e-6) and found["pixels"] == pytest.approx((14 / 16) ** 2)
    swapped = consistency.depth_normal_angle(depth, np.broadcast_to(normal[[1, 0, 2]], (1, 16, 16, 3)), CAMERA)
    assert swapped["angle"] == pytest.approx(np.degrees(np.arccos(0.75)))


def test_rendered_scenes_agree_and_shuffled_ones_do_not(scenes):
    real = consistency.summary(scenes, scenes, FACTS)
    values, from_rgb = consistency.shuffled(scenes, {m: scenes[m] for m in ("depth", "normal", "mask")})
    mixed = consistency.summary(values, from_rgb, FACTS)
    assert real["depth-normal/angle"] < 1 and mixed["depth-normal/angle"] > 12
    assert real["depth-normal/pixels"] > 0.4
    assert real["boundary/geometry/recall"] > 0.98
    assert real["boundary/geometry/f"] > 0.9 and mixed["boundary/geometry/f"] < 0.7
    assert real["boundary/rgb/f"] > 0.85 and mixed["boundary/rgb/f"] < 0.65
    assert real["rgb-rest/depth/absrel"] < 1e-6 and mixed["rgb-rest/depth/absrel"] > 0.05
    assert real["rgb-rest/mask/miou"] == 1 and mixed["rgb-rest/mask/miou"] < 0.6
    assert real["rgb-rest/normal/mean"] < 1e-3 and mixed["rgb-rest/normal/mean"] > 12


def test_shuffled_takes_every_modality_from_another_scene():
    values = {m: np.arange(6) for m in ("depth", "rgb", "mask")}
    rolled, from_rgb = consistency.shuffled(values, {"depth": np.arange(6)})
    assert {tuple((value - np.arange(6)) % 6) for value in rolled.values()} == {(5,) * 6, (4,) * 6, (3,) * 6}
    np.testing.assert_array_equal(from_rgb["depth"], rolled["rgb"])


def test_without_camera_or_other_modalities_the_rest_remains(scenes):
    scores = consistency.summary({m: scenes[m] for m in ("rgb", "depth", "mask")}, None, Facts(regions=REGIONS))
    assert set(scores) == {"boundary/rgb/f", "boundary/rgb/recall", "boundary/rgb/precision"}
    assert Facts.from_metadata({"fov_degrees": 40}).camera is None
    assert Facts.from_metadata({"fov_degrees": 40, "depth_range": [3.5, 11]}).camera == CAMERA


def test_error_messages():
    with pytest.raises(ValueError, match=r"depth is 2x5 pixels: must be at least 3x3"):
        consistency.depth_normal_angle(np.ones((1, 5, 2)), np.ones((1, 5, 2, 3)), CAMERA)
    with pytest.raises(ValueError, match=r"2 samples of 2 modalities: shuffling needs at least 3"):
        consistency.shuffled({"rgb": np.zeros(2), "mask": np.zeros(2)}, None)


def test_masks_without_a_palette_have_borders_and_regions_too(scenes):
    """Of colours that are flat the scores are those of their ids; of colours as networks paint them, nearly so."""
    values = {m: x[:8] for m, x in scenes.items()}
    named = consistency.summary(values, values, FACTS)
    palette = np.array([[20, 30, 40], [230, 60, 90], [40, 220, 120], [200, 210, 30]], np.uint8)
    colours = palette[values["mask"]]
    facts = Facts(fov_degrees=FOV_DEGREES, depth_range=DEPTH_RANGE)
    flat = consistency.summary(values | {"mask": colours}, values | {"mask": colours}, facts)
    assert flat["boundary/rgb/f"] == pytest.approx(named["boundary/rgb/f"], abs=0.01)
    assert flat["rgb-rest/mask/matched_iou"] == 1 and "rgb-rest/mask/miou" not in flat
    noisy = np.clip(colours + np.random.default_rng(0).normal(0, 6, colours.shape), 0, 255).astype(np.uint8)
    painted = consistency.summary(values | {"mask": noisy}, values | {"mask": noisy}, facts)
    assert painted["boundary/geometry/f"] == pytest.approx(named["boundary/geometry/f"], abs=0.03)
    assert painted["rgb-rest/mask/matched_iou"] > 0.99
