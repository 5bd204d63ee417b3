"""Benchmarks of depth, read from small folders in their published layouts."""

from __future__ import annotations

import benchmark_trees
import numpy as np
import pytest

from mmgen_jax.data.benchmarks import registry
from mmgen_jax.system.errors import UsageError


def test_nyu_has_its_test_split_and_eigens_crop(tmp_path):
    rgb, depth = benchmark_trees.nyu(tmp_path / "nyu")
    scenes = registry.opened("nyuv2", str(tmp_path / "nyu"))
    assert scenes.names == ("0003", "0001")
    for i, number in enumerate((2, 0)):
        scene = scenes.load(i)
        np.testing.assert_array_equal(scene.rgb, rgb[number])
        np.testing.assert_array_equal(scene.depth, depth[number])
        assert scene.valid.sum() == (471 - 45) * (601 - 41) - 1  # one pixel was not measured
        assert scene.valid[45, 41] and scene.valid[470, 600] and not scene.valid[44, 41] and not scene.valid[470, 601]


def test_kitti_has_both_crops(tmp_path):
    rgb, depth, listing = benchmark_trees.kitti(tmp_path / "kitti")
    scenes = registry.opened("kitti", str(tmp_path / "kitti"), str(listing))
    assert len(scenes.names) == 1  # the other one has no depth
    scene = scenes.load(0)
    np.testing.assert_array_equal(scene.rgb, rgb[375 - 352 :, 13 : 13 + 1216])
    np.testing.assert_allclose(scene.depth, depth[375 - 352 :, 13 : 13 + 1216])
    rows, columns = np.flatnonzero(scene.valid.any(1)), np.flatnonzero(scene.valid.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (117, 320, 43, 1171)
    assert not scene.valid[200 - 23, 600 - 13] and scene.valid.sum() == 204 * 1129 - 1


def test_scannet_is_in_millimetres_and_its_images_take_the_size_of_depth(tmp_path):
    depth, listing = benchmark_trees.scannet(tmp_path / "scannet")
    scene = registry.opened("scannet", str(tmp_path / "scannet"), str(listing)).load(0)
    assert scene.rgb.shape == (48, 64, 3) and abs(int(scene.rgb.mean()) - 77) <= 1
    np.testing.assert_allclose(scene.depth, depth, rtol=1e-6)
    assert not scene.valid[0, 0] and scene.valid.sum() == 48 * 64 - 1


def test_diode_has_a_mask(tmp_path):
    depth = benchmark_trees.diode(tmp_path / "val")
    scenes = registry.opened("diode", str(tmp_path / "val"))
    assert scenes.names == ("indoors/scene_00019/scan_00183/00019_00183_indoors_000_010",)
    scene = scenes.load(0)
    np.testing.assert_array_equal(scene.depth, depth)
    assert not scene.valid[0].any() and scene.valid[1:].all()


def test_ibims_leaves_out_invalid_and_transparent_pixels(tmp_path):
    made = benchmark_trees.ibims(tmp_path / "ibims")
    scenes = registry.opened("ibims", str(tmp_path / "ibims"))
    assert scenes.names == ("room_0", "room_1")
    scene = scenes.load(1)
    np.testing.assert_array_equal(scene.rgb, made[1]["rgb"])
    assert not scene.valid[:3].any() and scene.valid[3:].all()


def test_other_layouts_are_told_in_one_line(tmp_path):
    for name in ("nyuv2", "ibims", "diode"):
        with pytest.raises(UsageError, match=r"--root .* has no "):
            registry.opened(name, str(tmp_path))
    for name in ("kitti", "scannet"):
        with pytest.raises(UsageError, match="--list is not given"):
            registry.opened(name, str(tmp_path))
    with pytest.raises(UsageError, match="--benchmark is 'eth3d'; allowed: nyuv2, kitti, scannet, diode, ibims"):
        registry.opened("eth3d", str(tmp_path))
    with pytest.raises(UsageError, match="is not there; allowed: a folder"):
        registry.opened("diode", str(tmp_path / "no"))
    (tmp_path / "short.txt").write_text("a.png\n")
    with pytest.raises(UsageError, match="has the line 'a.png'"):
        registry.opened("kitti", str(tmp_path), str(tmp_path / "short.txt"))
    (tmp_path / "list.txt").write_text("a.png b.png\n")
    with pytest.raises(UsageError, match="has no a.png"):
        registry.opened("scannet", str(tmp_path), str(tmp_path / "list.txt"))


def test_damaged_files_are_named(tmp_path):
    benchmark_trees.ibims(tmp_path / "ibims")
    (tmp_path / "ibims" / "room_1.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(UsageError, match="room_1.mat"):
        registry.opened("ibims", str(tmp_path / "ibims")).load(1)
    benchmark_trees.nyu(tmp_path / "nyu")
    (tmp_path / "nyu" / "nyu_depth_v2_labeled.mat").write_bytes(b"no HDF5")
    with pytest.raises(UsageError, match="nyu_depth_v2_labeled.mat is damaged"):
        registry.opened("nyuv2", str(tmp_path / "nyu"))
    benchmark_trees.diode(tmp_path / "val")
    [mask] = (tmp_path / "val").rglob("*_mask.npy")
    np.save(mask, np.ones((3, 4)))
    with pytest.raises(UsageError, match="_depth_mask.npy has shape"):
        registry.opened("diode", str(tmp_path / "val")).load(0)
    _, listing = benchmark_trees.scannet(tmp_path / "scannet")
    benchmark_trees.picture(tmp_path / "scannet/scene0000_00/depth/20.png", np.zeros((48, 64), np.uint8))
    with pytest.raises(UsageError, match="numbers up to 255; allowed: integers of 16 bits"):
        registry.opened("scannet", str(tmp_path / "scannet"), str(listing)).load(0)
