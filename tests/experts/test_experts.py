"""Experts: exact geometry, the painting rule, and the real libraries on tiny random models."""

import dataclasses
import math
import sys

import image_trees
import numpy as np
import pytest
import tiny_experts
from PIL import Image

from mmgen_jax.data.shapes.scenes import FOV_DEGREES
from mmgen_jax.data.shapes.single import DEPTH_RANGE
from mmgen_jax.experts import labelling, registry
from mmgen_jax.experts.depth_anything import stretch
from mmgen_jax.experts.from_depth import FromDepth, normals
from mmgen_jax.experts.painting import paint, seed_of
from mmgen_jax.experts.sam import suppress
from mmgen_jax.experts.stable_normal import StableNormal
from mmgen_jax.modalities.geometry import Camera
from mmgen_jax.system.errors import NotFinite, RunError, UsageError
from mmgen_jax.system.shares import ALL

GOLDEN = "tests/golden"


def angles(a, b):
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def rays(size, fov):
    """Directions of the pixels of a square image, z = -1 forward."""
    focal = size / 2 / math.tan(math.radians(fov) / 2)
    x = (np.arange(size) + 0.5 - size / 2) / focal
    return np.stack(np.broadcast_arrays(x, -x[:, None], -1.0), -1)


def relative(z, camera):
    return (1 / z - 1 / camera.far) / (1 / camera.near - 1 / camera.far)


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.6, 0, 0.8), (-0.2, 0.3, 0.9)])
@pytest.mark.parametrize("fov", [40, 90])
def test_normals_of_planes_are_exact(normal, fov):
    camera, n = Camera(fov, 0.5, 50), np.array(normal) / np.linalg.norm(normal)
    d = rays(24, fov)
    z = (-3.0 * n[2]) / (d @ n)  # through (0, 0, -3)
    assert (z > 0).all()
    np.testing.assert_allclose(normals(relative(z, camera), camera), np.broadcast_to(n, d.shape), atol=1e-9)


def test_normals_of_a_sphere():
    camera, size = Camera(50, 1, 10), 128
    d = rays(size, 50)
    centre, radius = np.array([0.2, 0.1, -4.0]), 1.0
    a, b = (d * d).sum(-1), d @ centre
    root = b**2 - a * (centre @ centre - radius**2)
    inside = root > 0
    s = (b - np.sqrt(np.where(inside, root, 0))) / a
    truth = (s[..., None] * d - centre) / radius
    z = np.where(inside, s, 9.0)
    found = normals(relative(z, camera), camera)
    facing = inside & (truth[..., 2] > 0.3)
    assert angles(found, truth)[facing].mean() < 1.5
    assert np.median(angles(found, np.array([0, 0, 1.0]))[~inside]) < 1e-6  # the wall, up to the sphere's edge


def test_normals_of_rendered_scenes(tmp_path):
    """The truth is independent: normals of the renderer, compared with those of its depth as stored with 16 bits."""
    scenes = image_trees.pixels(4, 96)
    near, far = DEPTH_RANGE
    camera = Camera(FOV_DEGREES, near, far)
    found = np.stack([normals(d[..., 0] / 65535.0, camera) for d in scenes["depth"]])
    truth = scenes["normal"] / 127.5 - 1
    truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
    error = angles(found, truth)
    assert np.median(error) < 2 and error.mean() < 6


def test_regions_are_painted_large_to_small_with_colours_of_the_path():
    large, small = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    large[:6], small[2:4, 2:4] = True, True
    picture = paint([small, large], "a/b.png")
    assert len({tuple(c) for c in picture.reshape(-1, 3)}) == 3
    assert (picture[2:4, 2:4] == picture[2, 2]).all() and (picture[0] == picture[5]).all()
    np.testing.assert_array_equal(picture, paint([large, small], "a/b.png"))
    assert (picture != paint([large, small], "a/c.png")).any()
    # The published rule, spelled out: a generator seeded by a digest of the path, one draw for each region.
    rng = np.random.default_rng(seed_of("a/b.png"))
    colours = [rng.integers(0, 256, size=3, dtype=np.uint8) for _ in range(3)]
    np.testing.assert_array_equal(picture[[0, 2, 7], [0, 2, 0]], colours)


def test_suppression_keeps_the_best_of_overlapping_boxes():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30], [0, 0, 30, 30]], np.float32)
    assert suppress(boxes, np.array([0.8, 0.9, 0.7, 0.6]), 0.7) == [1, 2, 3]
    assert suppress(boxes[:0], np.zeros(0), 0.7) == []


def test_depth_is_stretched_to_the_whole_range():
    label = stretch(np.array([[1.0, 3.0], [2.0, 1.5]]))
    np.testing.assert_array_equal(label[..., 0], [[0, 65535], [32768, 16384]])
    assert (stretch(np.full((2, 2), 7.0)) == 0).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_no_depth(number):
    depth = np.array([[1.0, 3.0], [2.0, number]])
    with pytest.raises(NotFinite, match="^1 of 4 numbers are NaN or infinite, which no pixel can be$"):
        stretch(depth)


class Spoils:
    """Depth as `depth-anything` makes it of its network's numbers, which are NaN for one image."""

    def label(self, images, names):
        numbers = [np.arange(9.0).reshape(3, 3) * (np.nan if name == "1.png" else 1) for name in names]
        return [stretch(depth) for depth in numbers]


def test_an_image_of_which_an_expert_makes_nan_is_listed_and_the_rest_is_labelled(tmp_path):
    for i in range(3):
        image_trees.save(tmp_path / "in" / f"{i}.png", np.zeros((3, 3, 3), np.uint8))
    tree = labelling.Tree(tmp_path / "out")
    jobs = labelling.find_jobs(str(tmp_path / "in"), ALL)
    for _ in range(2):  # the next run tries it again
        assert labelling.run_expert("depth", Spoils(), jobs, tree, batch=2) == [
            {
                "modality": "depth",
                "image": "1.png",
                "reason": "9 of 9 numbers are NaN or infinite, which no pixel can be",
            }
        ]
        assert sorted(path.name for path in (tmp_path / "out" / "depth").iterdir()) == ["0.png", "2.png"]


@pytest.mark.parametrize("colour", [(0, 0, 0), (127, 127, 127), (128, 128, 128), (255, 255, 255), (0, 0, 255)])
def test_pictures_that_stable_normal_makes_of_nan_are_no_normals(colour):
    expert = StableNormal.__new__(StableNormal)  # without its repository
    expert._predict = lambda image: Image.new("RGB", image.size, colour)
    with pytest.raises(RunError, match=r"stable-normal made vectors of length \d\.\d\d, which are not normals"):
        expert.label([np.zeros((5, 7, 3), np.uint8)], ["a.png"])


def test_depth_anything_labels_images_of_several_sizes(rng):
    expert = registry.make("depth", f"depth-anything:{GOLDEN}/tiny_depth_anything", "unused")
    expert._network = dataclasses.replace(expert._network, short_side=56)  # faster than 518
    images = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((30, 40), (28, 28), (30, 40))]
    labels = expert.label(images, ["a.png", "b.png", "c.png"])
    assert [x.shape for x in labels] == [(30, 40, 1), (28, 28, 1), (30, 40, 1)]
    assert all(x.dtype == np.uint16 and x.min() == 0 and x.max() == 65535 for x in labels)
    # A batch of another size may be computed in another order, which can move a rounded number by one step of 65,535.
    alone = expert.label(images[2:], ["c.png"])[0]
    np.testing.assert_allclose(alone.astype(int), labels[2].astype(int), rtol=0, atol=1)


def test_sam_of_transformers(tmp_path, rng):
    tiny_experts.sam(tmp_path)
    image = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    description = f"sam:{tmp_path},points=3,iou=-10,stability=0"
    label = registry.make("mask", description, "unused").label([image], ["x.png"])[0]
    assert label.shape == (40, 48, 3) and label.dtype == np.uint8
    assert 1 <= len({tuple(c) for c in label.reshape(-1, 3)}) <= 28
    with pytest.raises(UsageError, match="sam found no region in 'x.png'"):
        registry.make("mask", f"sam:{tmp_path},points=2,iou=10", "unused").label([image], ["x.png"])


def test_stable_normal_of_a_hub_folder(tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(UsageError, match="has no hubconf.py"):
        registry.make("normal", f"stable-normal:{tmp_path}", "unused")
    (tmp_path / "hubconf.py").write_text("")
    with pytest.raises(UsageError, match="cannot be loaded .*StableNormal"):
        registry.make("normal", f"stable-normal:{tmp_path}", "unused")
    (tmp_path / "hubconf.py").write_text(
        "from PIL import Image\n"
        "def StableNormal(**kwargs):\n"
        "    return lambda image: Image.new('RGB', (image.width, image.height), (127, 127, 255))\n"
    )
    label = registry.make("normal", f"stable-normal:{tmp_path}", "unused").label([np.zeros((5, 7, 3), np.uint8)], ["a"])
    np.testing.assert_array_equal(label[0], np.broadcast_to(np.uint8([127, 127, 255]), (5, 7, 3)))


def test_marigold_of_diffusers(tmp_path, rng):
    tiny_experts.marigold(tmp_path / "model")
    expert = registry.make("normal", f"marigold:{tmp_path}/model,steps=1", "unused")
    image = rng.integers(0, 256, (24, 40, 3)).astype(np.uint8)
    label = expert.label([image], ["a.png"])[0]
    assert label.shape == (24, 40, 3) and label.dtype == np.uint8 and label.std() > 0
    np.testing.assert_allclose(np.linalg.norm(label / 127.5 - 1, axis=-1), 1, atol=0.02)
    np.testing.assert_array_equal(expert.label([image], ["b.png"])[0], label)
    with pytest.raises(UsageError, match="marigold 'nowhere' cannot be loaded"):
        registry.make("normal", "marigold:nowhere", "unused")


@pytest.mark.parametrize(
    "modality, description, message",
    [
        ("depth", "midas:x", "depth is 'midas'; allowed: depth-anything, precomputed"),
        ("depth", "depth-anything", "depth is 'depth-anything'; allowed: depth-anything:PATH, a folder, a file"),
        ("normal", "from-depth:x", "normal is 'from-depth:x'; allowed: from-depth without a path"),
        ("normal", "from-depth:zoom=2", "option of normal from-depth is 'zoom'; allowed: fov, near, far"),
        ("normal", "from-depth:fov=wide", "option fov of normal from-depth is 'wide'; allowed: a number"),
        ("normal", "from-depth:fov=500", "fov is 500; allowed: 1 to 170 degrees"),
        ("normal", "from-depth:near=5,far=2", "near, far are 5, 2; allowed: 0 < near < far"),
        ("mask", "precomputed:nowhere", "folder 'nowhere' does not exist"),
        ("depth", "depth-anything:nowhere", "'nowhere' does not exist; allowed: a folder, a file, or a hub id"),
    ],
)
def test_descriptions_that_do_not_fit(modality, description, message):
    with pytest.raises(UsageError, match=message):
        registry.make(modality, description, "unused")


def test_a_missing_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        UsageError,
        match="sam needs the package torch, .*; ./launch/setup.sh --experts, or outside a checkout pip install",
    ):
        registry.make("mask", f"sam:{tmp_path}", "unused")


def wall(normal, height=256, width=384, distance=2.2):
    """Unit normal, and relative inverse depth [H, W] in (0, 1) of the plane n.P = -distance at 60 degrees of view."""
    camera, n = Camera(60, 1, 10), np.array(normal) / np.linalg.norm(normal)
    focal = width / 2 / math.tan(math.radians(30))
    x, y = (np.arange(width) + 0.5 - width / 2) / focal, -(np.arange(height)[:, None] + 0.5 - height / 2) / focal
    return n, relative(1 / np.clip((n[2] - n[0] * x - n[1] * y) / distance, 1e-6, None), camera), camera


SLANTS = [(math.sin(math.radians(a)), 0, math.cos(math.radians(a))) for a in (0, 15, 30, 45, 60, -45)]
SLANTS += [(0, math.sin(math.radians(a)), math.cos(math.radians(a))) for a in (30, 45, 60, -30)] + [(0.5, 0.6, 0.62)]


@pytest.mark.parametrize("normal", SLANTS)
@pytest.mark.parametrize("bits, most", [(7, 2), (8, 0.5), (10, 0.2), (12, 0.1), (16, 0.02)])
def test_normals_of_walls_are_right_at_every_bit_depth(normal, bits, most):
    n, depth, camera = wall(normal)
    top = 2**bits - 1
    stored = np.rint(np.rint(np.clip(depth, 0, 1) * top) * (65535 / top)) / 65535
    seen = (depth > 0.02) & (depth < 0.98)
    error = angles(normals(stored, camera), n)[seen]
    assert seen.mean() > 0.4 and error.mean() < most, error.mean()


@pytest.mark.parametrize("bits, most", [(8, 1.6), (10, 1.1), (12, 0.9), (16, 0.8)])
def test_normals_of_rendered_scenes_at_every_bit_depth(bits, most):
    scenes, top = image_trees.pixels(4, 96), 2**bits - 1
    camera = Camera(FOV_DEGREES, *DEPTH_RANGE)
    truth = scenes["normal"] / 127.5 - 1
    truth /= np.linalg.norm(truth, axis=-1, keepdims=True)
    stored = np.rint(scenes["depth"][..., 0] / 65535 * top) / top
    error = angles(np.stack([normals(depth, camera) for depth in stored]), truth)
    assert error.mean() < most and np.median(error) < 0.3


@pytest.mark.parametrize("bits", [1, 2, 4, 5, 6])
def test_depth_in_too_few_levels_is_refused(tmp_path, bits):
    _, depth, camera = wall((0.5, 0.6, 0.62), 48, 64, distance=1.2)
    top = 2**bits - 1
    stored = np.rint(np.rint(np.clip(depth, 0, 1) * top) * (65535 / top)).astype(np.uint16)
    image_trees.save(tmp_path / "a.png", stored[..., None])
    with pytest.raises(UsageError, match=f"depth .*a.png has .* levels, 1/{top} of its range apart, too coarse"):
        FromDepth(str(tmp_path), camera).label([], ["a.jpg"])


@pytest.mark.parametrize("bits", [8, 16])
def test_normals_beside_holes_in_depth_are_right(tmp_path, bits):
    """The hole of zeros is neither a surface nor an edge, and gets no normal."""
    n, depth, camera = wall((0.5, 0.6, 0.62), 96, 128)
    stored = np.maximum(np.rint(np.clip(depth, 0, 1) * (2**bits - 1)), 1).astype(f"u{bits // 8}")
    hole = np.zeros(stored.shape, bool)
    hole[30:66, 60:90], hole[::7, ::9] = True, True
    image_trees.save(tmp_path / "a.png", np.where(hole, 0, stored).astype(stored.dtype)[..., None])
    (found,) = registry.make("normal", "from-depth:invalid=0", str(tmp_path)).label([], ["a.jpg"])
    assert (found[hole] == 128).all()
    seen = (depth > 0.02) & (depth < 0.98) & ~hole
    vectors = found[seen] / 127.5 - 1
    error = angles(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), n)
    assert error.mean() < (1 if bits == 8 else 0.5)
    wrong = registry.make("normal", "from-depth", str(tmp_path)).label([], ["a.jpg"])[0][seen] / 127.5 - 1
    assert angles(wrong / np.linalg.norm(wrong, axis=-1, keepdims=True), n).mean() > error.mean()


def test_precomputed_depth_keeps_its_holes(tmp_path):
    image = np.array([[0, 1, 200, 255]] * 4, np.uint8)
    image_trees.save(tmp_path / "a.png", image[..., None])
    shown = np.zeros((4, 4, 3), np.uint8)
    for described, expected in (
        (f"precomputed:{tmp_path}", [0, 257, 51400, 65535]),
        (f"precomputed:{tmp_path},invalid=0", [0, 257, 51400, 65535]),
        (f"precomputed:{tmp_path},invalid=255", [1, 257, 51400, 0]),
    ):
        (label,) = registry.make("depth", described, "").label([shown], ["a.jpg"])
        np.testing.assert_array_equal(label[0, :, 0], expected)
    with pytest.raises(UsageError, match="normal is 'precomputed:.*,invalid=0'; allowed: precomputed:PATH, a folder"):
        registry.make("normal", f"precomputed:{tmp_path},invalid=0", "")
    with pytest.raises(UsageError, match="option invalid of depth precomputed is .inf.; allowed: a number"):
        registry.make("depth", f"precomputed:{tmp_path},invalid=inf", "")
