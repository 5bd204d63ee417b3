"""Trees of files become tiles: what belongs together stays together, and what is missing or wrong is named."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import image_files
import image_trees
import numpy as np
import pytest
from PIL import Image

from mmgen_jax.data import tiles
from mmgen_jax.data.trees import builder, folders, hypersim, imagenet
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.modalities.conventions import DepthFiles
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.system.errors import UsageError

ROOT = Path(__file__).parents[2]


def folder_plan(root, modalities=NAMES, classes="none", test_fraction=0.0, strict=False, **reading):
    directories = {m: str(root / m) for m in modalities}
    reading = Reading(**({"size": 16} | reading))
    return folders.make_plan(directories, classes, test_fraction, strict, reading)


def written(kind, out, plan, split="train", workers=1) -> dict[str, dict]:
    """Reads a data set: key -> decoded tile."""
    path = builder.write(kind, str(out), plan, workers)
    source = tiles.read_tiles(path, split)
    return {source[i]["key"].decode(): tiles.decode_tile(source[i]) for i in range(len(source))}


def test_tiles_hold_exactly_what_the_files_hold(tmp_path, capsys):
    scenes = image_trees.folders(tmp_path)
    found = written(folders.FolderTiles, tmp_path / "out", folder_plan(tmp_path))
    assert sorted(found) == [f"{i:03d}" for i in range(6)]
    for i in range(6):
        tile = found[f"{i:03d}"]
        for m in NAMES:
            np.testing.assert_array_equal(tile[m], scenes[m][i])
        assert tile["class_id"] == -1 and tile["present"].all()
    assert tiles.class_names(str(tmp_path / "out")) == ()
    assert "(6 train)" in capsys.readouterr().out


def test_several_processes_write_the_same(tmp_path):
    image_trees.folders(tmp_path, count=40, size=16)
    plan = folder_plan(tmp_path, size=8)
    one = written(folders.FolderTiles, tmp_path / "one", plan)
    two = written(folders.FolderTiles, tmp_path / "two", plan, workers=2)
    assert list(one) == list(two)
    for key in one:
        for m in NAMES:
            np.testing.assert_array_equal(one[key][m], two[key][m])


def test_classes_and_splits_come_from_the_keys(tmp_path):
    image_trees.folders(tmp_path, count=40, key="class{c}/{i:03d}")
    plan = folder_plan(tmp_path, classes="folders", test_fraction=0.3)
    assert plan.class_names == ("class0", "class1")
    assert {g.class_id for g in plan.splits["train"] if g.key.startswith("class1/")} == {1}
    assert 4 <= len(plan.splits["test"]) <= 20
    before = {g.key for g in plan.splits["test"]}
    for m in NAMES:  # more files leave the others where they are
        image_trees.save(tmp_path / m / "class0" / "new.png", image_trees.pixels(1, 16)[m][0])
    after = {g.key for g in folder_plan(tmp_path, classes="folders", test_fraction=0.3).splits["test"]}
    assert before <= after


def test_one_crop_for_all_modalities(tmp_path, rng):
    size, (top, left) = 64, (20, 50)
    rgb = np.full((size, 2 * size, 3), 40, np.uint8)
    rgb[top : top + 16, left : left + 24] = (250, 250, 250)
    inside = rgb[..., 0] > 100
    normal = np.where(inside[..., None], [127, 127, 255], [255, 127, 127]).astype(np.uint8)
    files = {
        "rgb": rgb,
        "depth": np.where(inside, 60000, 5000).astype(np.uint16)[..., None],
        "normal": normal,
        "mask": np.where(inside[..., None], [255, 0, 0], [0, 0, 255]).astype(np.uint8),
    }
    for m, image in files.items():
        image_trees.save(tmp_path / m / "a.png", image)
    tile = Reading(16).tile(Group("a", {m: str(tmp_path / m / "a.png") for m in NAMES}))
    shown = tile["mask"][..., 0] > 128
    assert 8 < shown.sum() < 40
    for m, is_inside in (
        ("rgb", tile["rgb"][..., 0] > 145),
        ("depth", tile["depth"][..., 0] > 32500),
        ("normal", tile["normal"][..., 2] > tile["normal"][..., 0]),
    ):
        assert (is_inside != shown).mean() < 0.06, m
    assert {tuple(c) for c in tile["mask"].reshape(-1, 3)} == {(255, 0, 0), (0, 0, 255)}
    length = np.linalg.norm(tile["normal"].astype(np.float64) / 127.5 - 1, axis=-1)
    np.testing.assert_allclose(length, 1, atol=0.02)


def test_kinds_of_files(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for name, image, m, expected in (
        ("grey.jpg", Image.fromarray(np.full((16, 16), 77, np.uint8)), "rgb", np.full((16, 16, 3), 77)),
        ("cmyk.jpg", Image.new("CMYK", (16, 16), (0, 0, 0, 0)), "rgb", np.full((16, 16, 3), 255)),
        ("solid.png", Image.new("RGBA", (16, 16), (1, 2, 3, 255)), "rgb", np.full((16, 16, 3), (1, 2, 3))),
        ("eight.png", Image.fromarray(grey), "depth", grey[..., None].astype(int) * 257),
        ("three.png", Image.fromarray(grey).convert("RGB"), "depth", grey[..., None].astype(int) * 257),
        (
            "mask.png",
            Image.new(
                "P",
                (16, 16),
                3,
            ),
            "mask",
            np.full((16, 16, 3), 3),
        ),
    ):
        if image.mode == "P":
            image.putpalette([v for i in range(256) for v in (i, i, i)])
        image.save(tmp_path / name)
        np.testing.assert_array_equal(MODALITIES[m].read(str(tmp_path / name)), expected, err_msg=name)


def test_far_depth_is_turned_around(tmp_path):
    image_trees.save(tmp_path / "d.png", np.full((16, 16, 1), 60000, np.uint16))
    files = {"depth": str(tmp_path / "d.png")}
    assert (Reading(16, DepthFiles("far")).tile(Group("d", files))["depth"] == 5535).all()


def test_what_is_missing_is_absent_and_counted_or_with_strict_an_error(tmp_path, capsys):
    image_trees.folders(tmp_path)
    (tmp_path / "normal" / "002.png").unlink()
    (tmp_path / "rgb" / "004.png").unlink()
    found = written(folders.FolderTiles, tmp_path / "out", folder_plan(tmp_path))
    assert len(found) == 5
    np.testing.assert_array_equal(found["002"]["present"], [True, True, False, True])
    out = capsys.readouterr().out
    assert "normal is absent from 1 of 5 tiles, the first '002'" in out
    assert "depth/004.png has no rgb '004'" in out
    with pytest.raises(UsageError, match="depth/004.png has no rgb '004' in .*rgb, one of 1"):
        folder_plan(tmp_path, strict=True)
    for m in ("depth", "normal", "mask"):
        (tmp_path / m / "004.png").unlink()
    with pytest.raises(UsageError, match="normal of '002' is missing, one of 1"):
        builder.write(folders.FolderTiles, str(tmp_path / "s"), folder_plan(tmp_path, strict=True), 1)
    assert not (tmp_path / "s").exists()


def damage(root):
    """Makes files unsuitable in three ways; returns key -> text that the reason must have."""
    data = (root / "rgb" / "000.png").read_bytes()
    (root / "rgb" / "000.png").write_bytes(data[: len(data) // 2])
    image_trees.save(root / "depth" / "001.png", np.zeros((16, 20, 1), np.uint16))
    image_trees.save(root / "depth" / "003.png", np.random.default_rng(0).integers(0, 9, (16, 16, 3)).astype(np.uint8))
    return {"000": "rgb .*000.png cannot be read", "001": "has 20x16 pixels; rgb has 16x16", "003": "has colours"}


def test_unsuitable_files_are_skipped_and_listed(tmp_path, capsys):
    image_trees.folders(tmp_path)
    reasons = damage(tmp_path)
    found = written(folders.FolderTiles, tmp_path / "out", folder_plan(tmp_path))
    assert sorted(found) == ["002", "004", "005"]
    path = next((tmp_path / "out").rglob("skipped.jsonl"))
    entries = {e["key"]: e["reason"] for e in map(json.loads, path.read_text().splitlines())}
    assert sorted(entries) == sorted(reasons)
    for key, reason in reasons.items():
        assert re.search(reason, entries[key])
    assert "skipped 3 of 6" in capsys.readouterr().out


def test_strict_stops_at_an_unsuitable_file_and_leaves_nothing(tmp_path):
    image_trees.folders(tmp_path)
    damage(tmp_path)
    with pytest.raises(UsageError, match="cannot be read|has 20x16|has colours"):
        builder.write(folders.FolderTiles, str(tmp_path / "out"), folder_plan(tmp_path, strict=True), 1)
    assert not list((tmp_path / "out").rglob("dataset_info.json"))


def test_a_tree_of_files_as_tools_write_them(tmp_path):
    """A photo with an odd EXIF tag, one with alpha, depth of 16 bits in RGB, floats, and one damaged file."""
    rgb = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    depth = np.random.default_rng(2).integers(0, 65536, (16, 16), dtype=np.uint16)
    file = io.BytesIO()
    Image.fromarray(rgb).save(file, "JPEG")
    with Image.open(file) as image:
        shown = np.array(image)
    exif = image_files.exif((0x112, 3, 1, b"\6\0"), (0x13B, 5, 1, b"\7\0\0\0\3\0\0\0"))  # turned; an artist of 7/3
    photos = {
        "turned.JPG": image_files.jpeg_with(file.getvalue(), 0xE1, b"Exif\0\0" + exif),
        "alpha.tif": image_files.tiff(np.dstack([rgb, rgb[..., :1]]), 8, 2),
        "deep.png": image_files.png(rgb.astype(np.uint16) * 257, 16, "rgb"),
        "cut.png": image_files.png(rgb, 8, "rgb")[:-99],
    }
    labels = {
        "turned.png": image_files.png(depth[..., None].repeat(3, -1), 16, "rgb"),
        "alpha.TIFF": image_files.tiff((depth / 65535).astype(np.float64), 64),
        "deep.exr": image_files.exr({"Z": (depth / 65535).astype(np.float32)}),
        "cut.png": image_files.png(depth, 16, "grey"),
    }
    for m, written_files in (("rgb", photos), ("depth", labels)):
        (tmp_path / m).mkdir()
        for name, data in written_files.items():
            (tmp_path / m / name).write_bytes(data)
    found = written(folders.FolderTiles, tmp_path / "out", folder_plan(tmp_path, ("rgb", "depth")))
    assert sorted(found) == ["alpha", "deep", "turned"]
    np.testing.assert_array_equal(found["turned"]["rgb"], np.rot90(shown, -1))
    for key in ("alpha", "deep"):
        np.testing.assert_array_equal(found[key]["rgb"], rgb)
    for key in found:
        np.testing.assert_array_equal(found[key]["depth"][..., 0], depth)
    (entry,) = map(json.loads, next((tmp_path / "out").rglob("skipped.jsonl")).read_text().splitlines())
    assert entry["key"] == "cut" and "cut.png cannot be read" in entry["reason"]


def test_nothing_left_is_an_error(tmp_path):
    image_trees.folders(tmp_path, count=1)
    (tmp_path / "rgb" / "000.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match="split 'train' has no tile left; the first reason: rgb .*000.png cannot be"):
        builder.write(folders.FolderTiles, str(tmp_path / "out"), folder_plan(tmp_path), 1)


def test_imagenet_layout(tmp_path):
    scenes = image_trees.imagenet(tmp_path / "imagenet")
    names = tmp_path / "synsets.txt"
    names.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n")
    plan = imagenet.make_plan(str(tmp_path / "imagenet"), str(names), True, Reading(16))
    assert plan.class_names == ("tench", "goldfish")
    test = written(imagenet.ImagenetTiles, tmp_path / "out", plan, "test")
    assert sorted(test) == [f"{('n01440764', 'n01443537')[i % 2]}/{i:03d}" for i in (4, 6, 5, 7)]
    tile = test["n01443537/005"]
    assert tile["class_id"] == 1
    for m in NAMES:
        np.testing.assert_array_equal(tile[m], scenes[m][5])
    assert tiles.read_metadata(str(tmp_path / "out"))["synsets"] == ["n01440764", "n01443537"]


def test_imagenet_errors(tmp_path):
    with pytest.raises(UsageError, match="is not an ImageNet tree; it needs rgb/train/<synset>/<image>"):
        imagenet.make_plan(str(tmp_path), None, False, Reading(16))
    image_trees.imagenet(tmp_path)
    (tmp_path / "s.txt").write_text("n01440764 tench\n")
    with pytest.raises(UsageError, match="class folder n01443537 is not in .*s.txt, one of 1"):
        imagenet.make_plan(str(tmp_path), str(tmp_path / "s.txt"), False, Reading(16))
    (tmp_path / "s.txt").write_text("n01440764\n")
    with pytest.raises(UsageError, match="line 1 of .* is 'n01440764'; allowed: a synset"):
        imagenet.make_plan(str(tmp_path), str(tmp_path / "s.txt"), False, Reading(16))
    image_trees.save(tmp_path / "rgb" / "val" / "loose.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(UsageError, match="loose.png is in no class folder of rgb/train, one of 1 in rgb/val"):
        imagenet.make_plan(str(tmp_path), None, False, Reading(16))


def test_two_synsets_of_one_name_stay_apart(tmp_path):
    image_trees.imagenet(tmp_path)
    (tmp_path / "s.txt").write_text("n01440764 crane\nn01443537 crane\n")
    plan = imagenet.make_plan(str(tmp_path), str(tmp_path / "s.txt"), False, Reading(16))
    assert plan.class_names == ("crane (n01440764)", "crane (n01443537)")


def test_hypersim_layout(tmp_path):
    scenes = image_trees.hypersim(tmp_path)
    splits = {"train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt")}
    plan = hypersim.make_plan(str(tmp_path / "processed"), splits, True, Reading(16))
    found = written(hypersim.HypersimTiles, tmp_path / "out", plan, "test")
    assert sorted(found) == ["ai_002_001/cam_00/frame.0000", "ai_002_001/cam_00/frame.0001"]
    for m in NAMES:
        np.testing.assert_array_equal(found["ai_002_001/cam_00/frame.0001"][m], scenes[m][3])
    assert found["ai_002_001/cam_00/frame.0001"]["class_id"] == -1
    (tmp_path / "test.txt").write_text("ai_001_001\n")
    with pytest.raises(UsageError, match="scene 'ai_001_001' is in both split files"):
        hypersim.make_plan(str(tmp_path / "processed"), splits, True, Reading(16))
    (tmp_path / "test.txt").write_text("ai_009_001\n")
    with pytest.raises(UsageError, match="scene 'ai_009_001' has no frames in"):
        hypersim.make_plan(str(tmp_path / "processed"), splits, True, Reading(16))


def command(module, *arguments) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", f"mmgen_jax.data.trees.{module}", *arguments]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_commands(tmp_path):
    image_trees.folders(tmp_path / "f")
    arguments = [f"--{m}={tmp_path}/f/{m}" for m in ("rgb", "depth")]
    done = command("folders", *arguments, f"--out={tmp_path}/a", "--size=8", "--test_fraction=0.4")
    assert done.returncode == 0, done.stderr
    assert "written:" in done.stdout and "train" in done.stdout
    source = tiles.read_tiles(str(tmp_path / "a"), "train")
    np.testing.assert_array_equal(tiles.decode_tile(source[0])["present"], [True, True, False, False])
    again = command("folders", *arguments, f"--out={tmp_path}/a", "--size=8", "--test_fraction=0.4")
    assert again.returncode == 2 and "exists already; remove it first" in again.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "no folder is given; allowed: --rgb, --depth, --normal, --mask"),
        (("--rgb=nowhere",), "folder 'nowhere' does not exist"),
        (("--rgb=docs",), "has no images; allowed: .png"),
        (("--rgb=docs/images", "--size=4"), "size is 4; allowed: 8 to 4096"),
        (("--rgb=docs/images", "--depth_is=deep"), "depth_is is 'deep'"),
        (("--rgb=docs/images", "--depth_range=1"), "depth_range is '1'; allowed: two numbers NEAR,FAR"),
        (("--rgb=docs/images", "--depth_range=a,b"), "depth_range is 'a,b'; allowed: two numbers NEAR,FAR"),
        (("--rgb=docs/images", "--depth_range=1,10"), "depth_range is 1,10; allowed with depth_is=near: NEAR > FAR"),
        (("--rgb=docs/images", "--depth_invalid=nan"), "depth_invalid is nan; allowed: a finite number"),
        (("--rgb=docs/images", "--normal_axes=-x,y"), "normal_axes is '-x,y'; allowed: x, y and z once each"),
        (("--rgb=docs/images", "--classes=some"), "classes is 'some'"),
        (("--rgb=docs/images", "--test_fraction=1"), "test_fraction is 1.0; allowed: at least 0 and below 1"),
        (("--rgb=docs/images", "--workers=0"), "workers is 0; allowed: 1 to 256"),
    ],
)
def test_bad_arguments_end_in_one_line(tmp_path, arguments, message):
    if "--rgb=docs" in arguments:
        (tmp_path / "empty").mkdir()
        arguments = (f"--rgb={tmp_path}/empty",)
    done = command("folders", f"--out={tmp_path}/out", *arguments)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and message in done.stderr, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()
