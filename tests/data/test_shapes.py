"""Rendered scenes against closed forms that are written out here."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from mmgen_jax.data import tiles
from mmgen_jax.data.shapes import builder, render
from mmgen_jax.data.shapes.single import DEPTH_RANGE, sample_scenes
from mmgen_jax.data.shapes.solids import KINDS, SOLIDS
from mmgen_jax.modalities.geometry import depth_to_relative, relative_to_depth
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.modalities.pixels import nearest_color
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError


def rays(size):
    """Unit-depth directions [H, W, 3], from the field of view alone."""
    half = np.tan(np.radians(builder.FOV_DEGREES) / 2)
    x = ((np.arange(size) + 0.5) / size * 2 - 1) * half
    return np.stack([*np.meshgrid(x, -x), np.full((size, size), -1.0)], -1)


@pytest.fixture(scope="module")
def large():
    """64 scenes at 128 pixels without oversampling: every pixel is one exact ray."""
    return builder.render(3, "train", np.arange(64), 128, oversample=1)


@pytest.fixture(scope="module")
def scenes():
    return sample_scenes(3, "train", np.arange(64))


def test_sphere_depth_and_normal(large, scenes):
    direction = rays(128)
    for i in np.nonzero(large["class_id"] == KINDS.index("sphere"))[0]:
        center, radius = scenes.center[i, 0].astype(float), float(scenes.scale[i, 0])
        a, b, c = (direction**2).sum(-1), direction @ center, center @ center - radius**2
        z = (b - np.sqrt(np.maximum(b * b - a * c, 0))) / a
        seen = large["mask"][i] == 2
        assert seen.sum() > 1000
        np.testing.assert_allclose(large["depth"][i][seen], z[seen], atol=2e-3)
        normal = (direction * z[..., None] - center) / radius
        assert np.median(np.abs(large["normal"][i] - normal)[seen]) < 1e-4


def test_ground_and_wall_depth(large, scenes):
    direction = rays(128)
    for region, plane in ((0, 0), (1, 1)):
        normal, offset = scenes.plane_normal[:, plane].astype(float), scenes.plane_offset[:, plane]
        z = offset[:, None, None] / np.einsum("hwc,nc->nhw", direction, normal)
        seen = large["mask"] == region
        np.testing.assert_allclose(large["depth"][seen], z[seen], rtol=1e-5)
        np.testing.assert_allclose(
            np.broadcast_to(normal[:, None, None], large["normal"].shape)[seen], large["normal"][seen], atol=1e-6
        )


def test_main_object_rests_on_the_ground(large, scenes):
    point = rays(128) * large["depth"][..., None]
    height = np.einsum("nhwc,nc->nhw", point, scenes.plane_normal[:, 1]) - scenes.plane_offset[:, 1, None, None]
    assert height.min() > -5e-3  # nothing sinks into it
    lowest = np.where(large["mask"] == 2, height, np.inf).min((1, 2))
    assert np.median(lowest) < 0.1


def test_normals_are_unit_and_face_the_camera(large):
    normal = large["normal"]
    np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, atol=1e-5)
    assert (-(normal * rays(128)).sum(-1)).min() > -2e-3


def test_normals_agree_with_depth(large):
    point = rays(128) * large["depth"][..., None].astype(float)
    across, down = point[:, 1:-1, 2:] - point[:, 1:-1, :-2], point[:, 2:, 1:-1] - point[:, :-2, 1:-1]
    normal = np.cross(down, across)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    mask = large["mask"]
    inner = mask[:, 1:-1, 1:-1]
    neighbours = (mask[:, 1:-1, 2:], mask[:, 1:-1, :-2], mask[:, 2:, 1:-1], mask[:, :-2, 1:-1])
    smooth = np.logical_and.reduce([m == inner for m in neighbours])
    cosine = np.clip((normal * large["normal"][:, 1:-1, 1:-1]).sum(-1), -1, 1)
    angle = np.degrees(np.arccos(cosine))
    for row in range(len(KINDS)):
        chosen = smooth & (inner == 2) & (large["class_id"] == row)[:, None, None]
        assert np.median(angle[chosen]) < 2.0, KINDS[row]
    assert np.median(angle[smooth & (inner == 1)]) < 0.1


@pytest.mark.parametrize("kind", SOLIDS)
def test_primitive_is_consistent(kind):
    """A hit is an entry, within the bounding ball and the reach, and turned rays see the same solid."""
    solid = SOLIDS[kind]
    rng = np.random.default_rng(0)
    aim = rng.uniform(-0.9, 0.9, (3, 4000)).astype(np.float32)
    o = rng.normal(size=(3, 4000))
    o = (4 * o / np.linalg.norm(o, axis=0)).astype(np.float32)
    d = aim - o
    t, normal = solid.intersect(o, d)
    hit = np.isfinite(t)
    assert 0.3 < hit.mean() < 1
    point = (o + np.where(hit, t, 0) * d)[:, hit]
    assert np.linalg.norm(point, axis=0).max() < solid.radius + 1e-3
    np.testing.assert_allclose(np.linalg.norm(normal[:, hit], axis=0), 1, atol=1e-4)
    assert (normal * d).sum(0)[hit].max() <= 1e-4
    for u in rng.normal(size=(5, 3)):
        u = u / np.linalg.norm(u)
        assert (u @ point).max() <= solid.reach(u) + 2e-3
    # Twice the direction is half the parameter; from the far side of the surface there is no re-entry at once.
    np.testing.assert_allclose(solid.intersect(o, 2 * d)[0][hit], t[hit] / 2, rtol=2e-3)
    off = point + 1e-2 * normal[:, hit]
    again, _ = solid.intersect(off, normal[:, hit])
    assert (again < 1e-3).mean() < 0.01


def test_masks_are_discrete_and_objects_well_sized():
    scene = builder.render(5, "train", np.arange(1600), 32)
    assert set(np.unique(scene["mask"])) == {0, 1, 2, 3}
    np.testing.assert_array_equal(np.bincount(scene["class_id"]), [200] * 8)
    area = (scene["mask"] == 2).mean((1, 2))
    assert area.min() > 0.12 and area.max() < 0.34
    means = [area[scene["class_id"] == row].mean() for row in range(8)]
    assert max(means) - min(means) < 0.05  # size does not tell the class
    assert (scene["mask"] == 3).mean((1, 2)).max() < area.min()
    assert np.isfinite(scene["depth"]).all()
    near, far = DEPTH_RANGE
    assert near < scene["depth"].min() and scene["depth"].max() < far


def test_the_first_version_is_as_it_was_written():
    """The checksum is of the first records before there was a second version."""
    pixels, class_id = builder.scene_pixels(0, "train", np.arange(16), 32)
    total = hashlib.sha256()
    for array in (*(pixels[m] for m in ("rgb", "depth", "normal", "mask")), class_id):
        total.update(np.ascontiguousarray(array).tobytes())
    assert total.hexdigest() == "65d8ed9de68a2a146975dae9a0445c6704dde8828f92b64a8ca204f7accf617f"


def test_deterministic_and_independent_of_the_batch():
    batch = builder.render(7, "test", np.array([11, 3, 8, 250]), 32)
    alone = builder.render(7, "test", np.array([8]), 32)
    for name in batch:
        np.testing.assert_array_equal(batch[name][2], alone[name][0], err_msg=name)
    for other in (builder.render(8, "test", np.array([8]), 32), builder.render(7, "train", np.array([8]), 32)):
        assert (other["rgb"] != alone["rgb"]).mean() > 0.2


def test_same_scene_at_every_size():
    small, big = (builder.render(1, "train", np.arange(32), size) for size in (32, 128))
    np.testing.assert_array_equal(small["class_id"], big["class_id"])
    assert (big["mask"][:, 2::4, 2::4] == small["mask"]).mean() > 0.95
    mean = big["rgb"].reshape(32, 32, 4, 32, 4, 3).astype(float).mean((2, 4))
    assert np.abs(mean - small["rgb"]).mean() < 2


def test_light_and_shadow(scenes):
    """Ground that a main sphere hides from the light is darker than open ground."""
    i = KINDS.index("sphere")
    scene = builder.render(3, "train", np.array([i]), 128, oversample=1)
    point = (rays(128) * scene["depth"][0][..., None]).reshape(-1, 3)
    toward = scenes.center[i, 0] - point
    light = scenes.light[i]
    along = toward @ light
    distance = np.linalg.norm(toward - along[:, None] * light, axis=-1)
    ground = (scene["mask"][0] == 1).ravel()
    bright = scene["rgb"][0].reshape(-1, 3).mean(-1)
    shade = ground & (distance < 0.95 * scenes.scale[i, 0]) & (along > 0)
    assert bright[shade].max() < np.median(bright[ground & (distance > 2 * scenes.scale[i, 0])])


def test_relative_depth_round_trip():
    near, far = DEPTH_RANGE
    z = np.linspace(near, far, 101)
    relative = depth_to_relative(z, DEPTH_RANGE)
    assert relative[0] == pytest.approx(1) and relative[-1] == pytest.approx(0, abs=1e-12)
    assert (np.diff(relative) < 0).all()
    np.testing.assert_allclose(relative_to_depth(relative, DEPTH_RANGE), z, rtol=1e-12)


def test_mirrored_pixels_are_the_mirrored_scene():
    """Mirroring depth turns the normals that it implies around; so must mirroring normals."""
    pixels, _ = builder.scene_pixels(0, "train", np.arange(4), 128)
    flipped = {name: m.mirror(pixels[name]) for name, m in MODALITIES.items()}
    normal, mirrored = (p["normal"].astype(int) for p in (pixels, flipped))
    np.testing.assert_array_equal(mirrored[..., 0], 255 - normal[:, :, ::-1, 0])
    np.testing.assert_array_equal(mirrored[..., 1:], normal[:, :, ::-1, 1:])
    z = relative_to_depth(flipped["depth"][..., 0] / 65535, DEPTH_RANGE)
    point = rays(128) * z[..., None]
    implied = np.cross(np.gradient(point, axis=1), np.gradient(point, axis=2))
    implied /= np.linalg.norm(implied, axis=-1, keepdims=True)
    ground = nearest_color(flipped["mask"], PALETTE) == 1
    assert np.median(np.abs(implied - (mirrored / 127.5 - 1))[ground]) < 0.02


def test_builder_round_trip(tmp_path, capsys):
    recipe = builder.Recipe(size=16, train=20, test=9, seed=4)
    path = builder.build(str(tmp_path), recipe)
    assert tiles.class_names(path) == KINDS and tiles.image_size(str(tmp_path)) == (16, 16)
    pixels, class_id = builder.scene_pixels(4, "train", np.arange(20), 16)
    source = tiles.read_tiles(str(tmp_path), "train")
    assert len(source) == 20 and len(tiles.read_tiles(path, "test")) == 9
    for i in range(20):
        tile = tiles.decode_tile(source[i])
        assert tile["class_id"] == class_id[i] and tile["present"].all()
        assert source[i]["key"] == b"train-%08d" % i
        for name in MODALITIES:
            np.testing.assert_array_equal(tile[name], pixels[name][i])
    metadata = tiles.read_metadata(path)
    assert metadata["depth_range"] == list(DEPTH_RANGE) and metadata["palette"] == PALETTE.tolist()
    assert builder.build(str(tmp_path), recipe) == path and "already complete" in capsys.readouterr().out
    with pytest.raises(UsageError, match="seed is 5, but the data set in .* has 4"):
        builder.build(str(tmp_path), builder.Recipe(size=16, train=20, test=9, seed=5))


def test_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(builder, "_encode", interrupt)
    with pytest.raises(KeyboardInterrupt):
        builder.build(str(tmp_path), builder.Recipe(size=8, train=8, test=8))
    with pytest.raises(UsageError, match="holds no data set"):
        tiles.find_dataset(str(tmp_path))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 7}, "size is 7; allowed: 8 to 2048"),
        ({"train": 0}, "train is 0; allowed: 1 to"),
        ({"test": 0}, "test is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_recipe(wrong, message):
    with pytest.raises(UsageError, match=message):
        builder.Recipe(**wrong)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="split: 'val' is not known; allowed: train, test"):
        builder.render(0, "val", np.arange(2), 8)
    with pytest.raises(ValueError, match="size and oversample"):
        builder.render(0, "train", np.arange(2), 0)
    with pytest.raises(ValueError, match="indices"):
        builder.render(0, "train", np.array([-1]), 8)


def test_command_line(tmp_path):
    command = [sys.executable, "-m", "mmgen_jax.data.shapes", f"--data_dir={tmp_path}", "--size=8", "--test=4"]
    wrong = subprocess.run([*command, "--train=0"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.splitlines() == ["error: train is 0; allowed: 1 to 100000000"]
    right = subprocess.run([*command, "--train=300", "--workers=2"], capture_output=True, text=True)
    assert right.returncode == 0, right.stderr
    assert right.stdout.splitlines() == [f"written: {tmp_path}/shapes/1.0.0"]
    assert right.stderr == ""
    assert len(tiles.read_tiles(str(tmp_path), "train")) == 300


def test_chunks_do_not_matter(monkeypatch):
    whole = builder.render(0, "train", np.arange(9), 16)
    monkeypatch.setattr(render, "_CHUNK", 2 * 32 * 32)
    for name, array in builder.render(0, "train", np.arange(9), 16).items():
        np.testing.assert_array_equal(array, whole[name])
