"""Benchmarks of normals are read from their published layout, and their axes are told by what can be seen."""

from __future__ import annotations

import re

import benchmark_trees
import numpy as np
import pytest

from mmgen_jax.data.benchmarks import normals
from mmgen_jax.data.benchmarks.facing import ALL, Facing
from mmgen_jax.modalities.conventions import Axes
from mmgen_jax.modalities.geometry import angle
from mmgen_jax.studies import normal_benchmarks
from mmgen_jax.system.errors import UsageError


@pytest.mark.parametrize("kind, tolerance", [("u1", 0.5), ("u2", 0.003), ("f4", 1e-4)])
def test_normals_are_read_from_each_kind_of_file(tmp_path, kind, tolerance):
    made = benchmark_trees.dsine(tmp_path / "sintel", kind=kind)
    scenes = normals.opened("sintel", str(tmp_path))
    assert scenes.names == ("hall/000000", "hall/000001", "hall/000002")
    for i, normal in enumerate(made):
        scene = scenes.load(i)
        assert scene.rgb.shape == (48, 64, 3) and not scene.valid[0].any() and scene.valid[1:].all()
        assert angle(normals.AXES.turned(scene.normal), normal)[1:].max() < tolerance


def test_the_folder_may_be_that_of_the_benchmark_and_only_the_test_split_counts(tmp_path):
    benchmark_trees.dsine(tmp_path / "nyuv2" / "test", count=1)
    benchmark_trees.dsine(tmp_path / "nyuv2" / "train", count=2)
    for root in (tmp_path, tmp_path / "nyuv2", tmp_path / "nyuv2" / "test"):
        assert normals.opened("nyuv2", str(root)).names == ("hall/000000",)


def test_rays_lead_to_what_pixels_see(tmp_path):
    """Walls of the room face the camera: the normal and the ray are opposed."""
    [normal] = benchmark_trees.dsine(tmp_path, count=1)
    rays = normals.opened("ibims", str(tmp_path)).load(0).rays
    assert ((normal * rays).sum(-1) < 0).all()
    np.testing.assert_allclose(rays[24, 32], [0.5 / 40, -0.5 / 40, -1])


@pytest.mark.parametrize("axes", [*(axes.text for axes in ALL[::5]), "-x,y,z", "x,-y,-z"])
def test_axes_are_told_by_what_can_be_seen(tmp_path, axes):
    benchmark_trees.dsine(tmp_path, axes)
    seen = normal_benchmarks.look(normals.opened("scannet", str(tmp_path)), 3)
    assert seen.told() == Axes(axes) and seen.share(Axes(axes)) == 0 and seen.pixels == 3 * 11 * 16
    used, how = normal_benchmarks.chosen_axes("", seen)
    assert used.text == axes
    assert how == "as the images tell: 0.00% of the pixels that were looked at face away from the camera"


def test_axes_that_images_do_not_tell_are_those_of_the_authors():
    """A wall across the view looks the same mirrored."""
    normal, camera = benchmark_trees.room((32, 32), 0.0, 0.0, 100.0)
    scene = normals.NormalScene(np.zeros((32, 32, 3), np.uint8), normal, np.ones((32, 32), bool), camera)
    seen = Facing.of(normal.reshape(-1, 3), scene.rays.reshape(-1, 3))
    assert seen.told() is None
    used, how = normal_benchmarks.chosen_axes("", seen)
    assert used == normals.AXES and how.startswith("as their authors say, for images tell it not: 0.00% of")


def test_axes_that_were_asked_for_are_taken_and_doubted(tmp_path):
    benchmark_trees.dsine(tmp_path)
    seen = normal_benchmarks.look(normals.opened("ibims", str(tmp_path)), 3)
    used, how = normal_benchmarks.chosen_axes("x,y,z", seen)
    assert used == Axes()
    assert re.fullmatch(
        r"as asked for: \d+\.\d\d% of the pixels that were looked at face away from the camera; "
        r"with -x,y,z only 0.00% do, which are likely the right ones",
        how,
    )


def test_turning_undoes_what_files_did():
    vectors = np.random.default_rng(0).normal(size=(5, 3))
    for axes in ALL:
        stored = np.zeros_like(vectors)
        for k, part in enumerate(axes.text.split(",")):
            stored[:, "xyz".index(part[-1])] = (-1 if part[0] == "-" else 1) * vectors[:, k]
        np.testing.assert_array_equal(axes.turned(stored), vectors)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda path: path("normal.png").unlink(), "000000_normal.png is not there, and no 000000_normal.exr; allowed"),
        (lambda path: path("intrins.npy").unlink(), "000000_intrins.npy"),
        (
            lambda path: np.save(path("intrins.npy"), np.zeros((3, 3))),
            r"npy has shape \(3, 3\); allowed: 3 x 3 numbers",
        ),
        (lambda path: np.save(path("intrins.npy"), np.ones(4)), r"npy has shape \(4,\); allowed: 3 x 3 numbers"),
        (
            lambda path: benchmark_trees.picture(path("normal.png"), np.zeros((4, 5, 3), np.uint8)),
            "000000_normal.png has 5 x 4 pixels; allowed: 64 x 48",
        ),
    ],
)
def test_files_that_do_not_belong_there_are_named(tmp_path, change, message):
    benchmark_trees.dsine(tmp_path, count=1)
    change(lambda name: tmp_path / "hall" / f"000000_{name}")
    with pytest.raises(UsageError, match=message) as caught:
        normals.opened("vkitti", str(tmp_path)).load(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, folder, message",
    [
        ("oasis", "", "--benchmark is 'oasis'; allowed: nyuv2, scannet, ibims, sintel, vkitti, diode"),
        ("ibims", "no", "--root .*no is not there; allowed: a folder"),
        ("diode", "", r"--root .* has no files \*_normal.npy of diode"),
        ("ibims", "", r"--root .* has no images \*_img.png or \*_img.jpg of ibims"),
    ],
)
def test_folders_that_are_no_benchmark_are_named(tmp_path, name, folder, message):
    with pytest.raises(UsageError, match=message):
        normals.opened(name, str(tmp_path / folder))


@pytest.mark.parametrize("axes", ["x,-y,-z", "x,y,z", "-x,y,z"])
def test_normals_of_diode_are_read_from_its_own_files(tmp_path, axes):
    """Exact normals, zeros where there is none, and axes that images tell with the camera of its authors."""
    made = benchmark_trees.diode_normals(tmp_path, axes)
    scenes = normals.opened("diode", str(tmp_path))
    assert len(scenes.names) == 3 and scenes.names[0].endswith("00019_00183_indoors_000_000")
    for i, normal in enumerate(made):
        scene = scenes.load(i)
        np.testing.assert_array_equal(scene.valid, np.arange(48)[:, None].repeat(64, 1) > 0)
        assert angle(Axes(axes).turned(scene.normal), normal)[1:].max() < 0.02
        assert ((normal * scene.rays).sum(-1) < 0).all()
    seen = normal_benchmarks.look(scenes, 3)
    assert seen.told() == Axes(axes) and seen.share(Axes(axes)) == 0
    np.testing.assert_allclose(scenes.load(0).camera, [[886.81 / 16, 0, 32], [0, 927.06 / 16, 24], [0, 0, 1]])


def test_axes_of_diode_that_images_do_not_tell_are_asked_for():
    with pytest.raises(UsageError, match="axes is empty, and the images do not tell them; allowed: which are"):
        normal_benchmarks.chosen_axes("", Facing(4, np.zeros(48, np.int64)), normals.authors_axes("diode"))


@pytest.mark.parametrize("wrong", [np.zeros((4, 5, 3), np.float32), np.zeros((48, 64, 3), np.uint8)])
def test_normals_of_diode_of_another_shape_or_type_are_named(tmp_path, wrong):
    benchmark_trees.diode_normals(tmp_path)
    scenes = normals.opened("diode", str(tmp_path))
    np.save(tmp_path / f"{scenes.names[1]}_normal.npy", wrong)
    with pytest.raises(UsageError, match=r"normals .*010_normal.npy has .*; allowed: floats of shape \(48, 64, 3\)"):
        scenes.load(1)
