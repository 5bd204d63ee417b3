"""Data sets of trees with holes, metric depth and turned normals: right tiles, and a line for what is hardly meant."""

import itertools

import image_files
import image_trees
import numpy as np
import pytest
from PIL import Image

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.data.trees import builder, folders
from mmgen_jax.data.trees.groups import Group, Reading
from mmgen_jax.data.trees.look import Look, look
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.conventions import Axes, DepthFiles
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.registry import MODALITIES


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return str(path)


def nyu(path):
    """Millimetres of a slanted wall with a hole of zeros in it, uint16 [96, 128]."""
    x = np.broadcast_to(np.arange(128), (96, 128))
    image = (800 + 41 * x).astype(np.uint16)
    image[30:66, 88:112] = 0
    return image, save(path, image)


@pytest.mark.parametrize("size", [16, 32, 48, 96])
@pytest.mark.parametrize("files", [DepthFiles("near", 0), DepthFiles("far", 0), DepthFiles("far", 0, (0.8, 7), 0.001)])
def test_a_hole_is_not_a_surface(tmp_path, size, files):
    image, path = nyu(tmp_path / "mm.png")
    tile, seen = Reading(size, files).tile_and_look(Group("a", {"depth": path}))
    depth, hole = tile["depth"][..., 0].astype(float), tile["depth"][..., 0] == 0
    assert seen.holes == {"depth": 1}
    unbroken = np.broadcast_to(800 + 41 * np.arange(128), (96, 128)).astype(np.uint16)
    whole = DepthFiles(files.largest, None, files.range, files.metres).stored(unbroken, 65535, Source("wall"))[0]
    wall = MODALITIES["depth"].square(whole, size)[..., 0].astype(float)
    slope = np.abs(np.gradient(wall, axis=1)).max()
    assert abs(hole.mean() - 36 * 24 / 96**2) < 0.015 and (depth[hole] == 0).all()
    error = np.abs(depth - wall)[~hole]
    assert error.max() <= 1.1 * slope + 1  # at the rim; a hole that bled in would be off by the whole depth
    assert (error < 1.01).mean() > 0.75  # away from the rim nothing changes


def test_the_hole_of_normals_is_no_direction(tmp_path):
    image = np.full((96, 128, 3), (128, 128, 255), np.uint8)
    image[30:66, 88:112] = 128
    tile = Reading(32).tile(Group("a", {"normal": save(tmp_path / "n.png", image)}))["normal"]
    np.testing.assert_array_equal(tile[16, 28], 128)
    valid = MODALITIES["normal"].valid(tile)
    assert abs((~valid).mean() - 36 * 24 / 96**2) < 0.015 and (tile[~valid] == 128).all()
    assert (np.abs(tile[valid].astype(int) - (128, 128, 255)) <= 1).all()


def build(root, capsys, *reading, size=16, modalities=("rgb", "depth", "normal")):
    plan = folders.make_plan({m: str(root / m) for m in modalities}, "none", 0.0, True, Reading(size, *reading))
    path = builder.write(folders.FolderTiles, str(root / "out"), plan, 1)
    return path, capsys.readouterr().out


def test_a_data_set_with_holes_says_so_and_carries_them(tmp_path, capsys):
    scenes = image_trees.folders(tmp_path)
    depth, normal = scenes["depth"][2].copy(), scenes["normal"][3].copy()
    depth[4:8, 4:8], normal[:, :2] = 0, 0
    save(tmp_path / "depth" / "002.png", depth[..., 0])
    save(tmp_path / "normal" / "003.png", normal)
    path, said = build(tmp_path, capsys, DepthFiles(invalid=0))
    assert "depth has pixels without a value in 1 of 6 tiles; they count in no loss and no score" in said
    assert "normal has pixels without a value in 1 of 6 tiles" in said
    assert holes.of(tiles.read_metadata(path)) == ("depth", "normal")
    batch = pipeline.load(path, "train", ("rgb", "depth", "normal"), 16, None)
    assert (~batch["depth_valid"]).sum() == 16 and (~batch["normal_valid"]).sum() == 32
    assert batch["depth_valid"].shape == (6, 16, 16) and "rgb_valid" not in batch


def test_a_data_set_without_holes_carries_nothing(tmp_path, capsys):
    image_trees.folders(tmp_path)
    path, said = build(tmp_path, capsys)
    assert said.startswith("written: ")
    assert "holes" not in tiles.read_metadata(path)
    assert set(pipeline.load(path, "train", ("rgb", "depth"), 16, None)) == {"rgb", "depth", "class_id", "present"}


@pytest.mark.parametrize("bits, said", [(16, False), (15, False), (13, True), (12, True), (8, True)])
def test_depth_that_uses_a_sliver_of_its_range_is_said(tmp_path, capsys, bits, said):
    scenes = image_trees.folders(tmp_path)
    for i, image in enumerate(scenes["depth"]):
        wide = image[..., 0].astype(np.float64) - scenes["depth"].min()
        scaled = wide / np.ptp(scenes["depth"].astype(int)) * (2**bits - 1)
        save(tmp_path / "depth" / f"{i:03d}.png", np.rint(scaled + 100 * (bits < 16)).clip(0, 65535).astype(np.uint16))
    _, out = build(tmp_path, capsys)
    assert (f"depth uses {2**bits / 65536:.0%} of its 16 bits (100 to {2**bits + 99})" in out) == said
    assert ("--depth_range=NEAR,FAR" in out) == said


def test_metric_depth_keeps_its_metres(tmp_path, capsys):
    nyu(tmp_path / "depth" / "a.png")
    path, out = build(tmp_path, capsys, DepthFiles("far", 0, (0.5, 10), 0.001), modalities=("depth",))
    assert "16 bits" not in out
    metadata = tiles.read_metadata(path)
    assert Facts.from_metadata(metadata).depth_range == (0.5, 10) and metadata["depth_metres"] == 0.001


SIGNS = list(itertools.product(("", "-"), repeat=3))


@pytest.mark.parametrize("turned", [f"{i}x,{j}y,{k}z" for i, j, k in SIGNS])
@pytest.mark.parametrize("bits", [16, 8])
def test_turned_normals_are_said_with_the_way_out(tmp_path, capsys, turned, bits):
    """The files have other axes than is said; the line names what turns them, and with that nothing is said."""
    scenes = image_trees.folders(tmp_path, size=48)
    for i in range(6):
        save(tmp_path / "normal" / f"{i:03d}.png", Axes(turned).stored(scenes["normal"][i]))
        if bits == 8:
            save(tmp_path / "depth" / f"{i:03d}.png", (scenes["depth"][i, ..., 0] // 257).astype(np.uint8))
    _, out = build(tmp_path, capsys, size=48)
    if turned == "x,y,z":
        assert len(out.splitlines()) == 1
    else:
        assert f"--normal_axes={turned}" in out and len(out.splitlines()) == 2
        assert ("depth is upside down (--depth_is=far)" in out) == (turned == "-x,-y,z")
        assert ("they face away from the camera (mean z -0." in out) == turned.endswith("-z")
    (tmp_path / "again").mkdir()
    for m in ("rgb", "depth", "normal"):
        (tmp_path / m).rename(tmp_path / "again" / m)
    path, out = build(tmp_path / "again", capsys, DepthFiles(), Axes(turned), size=48)
    assert out.startswith("written: ")
    batch = pipeline.load(path, "train", ("normal",), 48, None)
    key = {tiles.read_tiles(path, "train")[i]["key"].decode(): i for i in range(6)}
    for i in range(6):
        np.testing.assert_allclose(batch["normal"][key[f"{i:03d}"]], scenes["normal"][i], atol=1)


@pytest.mark.parametrize("order", [o for o in itertools.permutations("xyz") if o != tuple("xyz")])
def test_exchanged_axes_of_normals_are_said_with_the_way_out(order):
    """All 48 ways of axes, of the truth from rendered scenes: what mends them is said, and nothing of right ones."""
    scenes = image_trees.pixels(12, 48)
    for signs in SIGNS:
        files = Axes(",".join(sign + axis for sign, axis in zip(signs, order, strict=True)))
        back = [next(f"{s}{own}" for own, s, a in zip("xyz", signs, order, strict=True) if a == axis) for axis in "xyz"]
        seen = Look()
        for depth, normal in zip(scenes["depth"], scenes["normal"], strict=True):
            seen.add(look({"depth": depth, "normal": files.stored(normal)}, {}, False))
        wanted = Axes(",".join(back))
        (line,) = seen.lines(DepthFiles(), Axes())
        assert f"--normal_axes={wanted.text} mends them" in line
        assert (wanted.stored(files.stored(scenes["normal"])) == scenes["normal"]).all()


@pytest.mark.parametrize("first, found, wanted", [
    ("x,y,z", "-x,y,-z", "-x,y,-z"), ("x,-y,-z", "x,-y,z", "x,y,-z"), ("y,-z,x", "-z,y,x", "-x,-z,y"),
])  # fmt: skip
def test_axes_that_are_found_after_others_were_used(first, found, wanted):
    vectors = np.random.default_rng(0).integers(0, 256, (4, 4, 3)).astype(np.uint8)
    assert Axes(first).then(Axes(found)) == Axes(wanted)
    np.testing.assert_array_equal(Axes(found).stored(Axes(first).stored(vectors)), Axes(wanted).stored(vectors))


def test_depth_that_is_upside_down_is_said(tmp_path, capsys):
    scenes = image_trees.folders(tmp_path, size=48)
    for i in range(6):
        save(tmp_path / "depth" / f"{i:03d}.png", 65535 - scenes["depth"][i, ..., 0])
    _, out = build(tmp_path, capsys, size=48)
    assert "depth is upside down (--depth_is=far), or normals are (--normal_axes=-x,-y,z)" in out


def test_normals_that_face_away_are_said_without_depth(tmp_path, capsys):
    scenes = image_trees.folders(tmp_path)
    for i in range(6):
        save(tmp_path / "normal" / f"{i:03d}.png", Axes("x,-y,-z").stored(scenes["normal"][i]))
    _, out = build(tmp_path, capsys, modalities=("rgb", "normal"))
    assert "normals are mirrored: they face away from the camera" in out and "--normal_axes=x,y,-z turns them" in out


@pytest.mark.parametrize("files", [DepthFiles("near"), DepthFiles("far")])
@pytest.mark.parametrize("size", [16, 32, 96])
def test_zeros_that_may_be_holes_are_asked_about(tmp_path, capsys, files, size):
    """Depth with a hole that nobody spoke of, and the same without one, at the whole range of 16 bits."""
    wall = np.broadcast_to(np.linspace(9000, 65000, 128), (96, 128)).astype(np.uint16)
    broken = wall.copy()
    broken[30:66, 50:74] = 0
    ramp = np.broadcast_to(np.linspace(0, 65535, 128), (96, 128)).astype(np.uint16).clip(6000) - 6000  # saturated at 0
    asked = "in 1 of 1 files; if 0 means that nothing was measured, say --depth_invalid=0"
    for name, image, said in (("broken", broken, True), ("wall", wall, False), ("ramp", ramp, False)):
        save(tmp_path / name / "depth" / "a.png", image)
        assert (asked in build(tmp_path / name, capsys, files, size=size, modalities=("depth",))[1]) == said, name
    save(tmp_path / "told" / "depth" / "a.png", broken)
    known = DepthFiles(files.largest, 0)
    assert asked not in build(tmp_path / "told", capsys, known, size=size, modalities=("depth",))[1]


def test_a_number_of_no_pixel_is_said(tmp_path, capsys):
    image_trees.folders(tmp_path)
    _, out = build(tmp_path, capsys, DepthFiles(invalid=70000))
    assert "no pixel of depth is 70000 in any tile, which --depth_invalid says has no value" in out


@pytest.mark.parametrize("kind", ["tiff", "exr"])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf, 0, -1])
def test_metres_in_files_of_floats(tmp_path, kind, rubbish):
    """2 m is (1/2 - 1/10) / (1/1 - 1/10) = 4/9 of the range; the hole is none of it, whatever stands in it."""
    metres = np.full((24, 24), 2.0, np.float32)
    metres[8:16, 8:16] = rubbish
    data = image_files.exr({"Z": metres}) if kind == "exr" else image_files.tiff(metres, 32)
    (tmp_path / "a.img").write_bytes(data)
    files = DepthFiles("far", rubbish if np.isfinite(rubbish) else None, (1, 10), 1.0)
    for size in (24, 12):
        tile, seen = Reading(size, files).tile_and_look(Group("a", {"depth": str(tmp_path / "a.img")}))
        hole = tile["depth"][..., 0] == 0
        assert seen.holes == {"depth": 1} and hole.mean() == 1 / 9
        assert (np.abs(tile["depth"][..., 0][~hole].astype(int) - 29127) <= 1).all()
