"""The command that labels: nothing twice, nothing lost, failures listed, and a picture to look at."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import image_trees
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from mmgen_jax import label
from mmgen_jax.experts import labelling
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.system.shares import ALL, Share

ROOT = Path(__file__).parents[1]


class Counting:
    """An expert whose labels tell the image's number; refuses images that are `bad`."""

    def __init__(self, bad=()):
        self.bad, self.seen, self.sizes = bad, [], []

    def label(self, images, names):
        self.sizes.append(len(images))
        for name in names:
            if Path(name).stem in self.bad:
                raise RuntimeError(f"cannot see {name}")
        self.seen += names
        return [
            np.full((*image.shape[:2], 1), 1 + int(Path(name).stem), np.uint16)
            for image, name in zip(images, names, strict=True)
        ]


@pytest.fixture
def scenes(tmp_path):
    """Writes tmp/in/{rgb,depth,normal,mask}/{a,b}/NNN.png; returns the pixels."""
    return image_trees.folders(tmp_path / "in", count=7, key="{c}/{i:03d}")


def jobs(tmp_path, share=ALL):
    return labelling.find_jobs(str(tmp_path / "in" / "rgb"), share)


def test_labels_mirror_the_images_and_are_made_once(scenes, tmp_path):
    tree, expert = labelling.Tree(tmp_path / "out"), Counting()
    assert labelling.run_expert("depth", expert, jobs(tmp_path), tree, batch=3) == []
    assert expert.sizes == [3, 3, 1]
    for i in range(7):
        assert (MODALITIES["depth"].read(str(tmp_path / "out" / "depth" / f"{i % 2}" / f"{i:03d}.png")) == i + 1).all()
    (tmp_path / "out" / "depth" / "0" / "004.png").unlink()
    again = Counting()
    labelling.run_expert("depth", again, jobs(tmp_path), tree, batch=3)
    assert again.seen == ["0/004.png"]


def test_what_fails_is_listed_and_the_rest_is_done(scenes, tmp_path):
    (tmp_path / "in" / "rgb" / "1" / "003.png").write_bytes(b"no image")
    tree, expert = labelling.Tree(tmp_path / "out"), Counting(bad={"002"})
    failures = labelling.run_expert("depth", expert, jobs(tmp_path), tree, batch=4)
    assert {f["image"]: f["reason"][:40] for f in failures} == {
        "0/002.png": "RuntimeError: cannot see 0/002.png",
        "1/003.png": f"rgb {tmp_path}/in/rgb/1/003.png"[:40],
    }
    assert sorted(p.stem for p in (tmp_path / "out").rglob("*.png")) == ["000", "001", "004", "005", "006"]
    assert not list((tmp_path / "out").rglob("*.part"))


def test_workers_share_the_images(scenes, tmp_path):
    parts = [jobs(tmp_path, Share(i, 3)) for i in range(3)]
    keys = [job.key for part in parts for job in part]
    assert sorted(keys) == sorted(job.key for job in jobs(tmp_path)) and len(set(keys)) == 7
    assert [len(part) for part in parts] == [3, 2, 2]


def test_images_are_cropped_first_and_kept(scenes, tmp_path):
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    image_trees.save(tmp_path / "in" / "rgb" / "0" / "100.png", wide)
    tree, expert = labelling.Tree(tmp_path / "out", size=16), Counting()
    labelling.run_expert("depth", expert, jobs(tmp_path), tree, batch=2)
    assert Image.open(tree.file("depth", "0/100")).size == (16, 16)
    assert (np.array(Image.open(tree.file("rgb", "0/100"))) > 150).all()


def command(*arguments) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "mmgen_jax.label", *map(str, arguments)]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_the_command_with_precomputed_and_derived_labels(scenes, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    arguments = [
        f"--images={source}/rgb",
        f"--out={out}",
        f"--depth=precomputed:{source}/depth",
        "--normal=from-depth:fov=50,near=2,far=9",
        f"--mask=precomputed:{source}/mask",
    ]
    (source / "mask" / "1" / "005.png").unlink()
    done = command(*arguments)
    assert done.returncode == 3, done.stderr
    assert (
        "1 labels failed, listed in" in done.stderr and "mask of 1/005.png: mask of '1/005' is missing" in done.stderr
    )
    assert "depth 7/7, normal 7/7, mask 6/7" in done.stdout
    assert [json.loads(x)["image"] for x in (out / "failures.jsonl").read_text().splitlines()] == ["1/005.png"]
    np.testing.assert_array_equal(MODALITIES["depth"].read(str(out / "depth" / "0" / "002.png")), scenes["depth"][2])
    sheet = np.array(Image.open(out / "contact_sheet.png"))
    assert sheet.shape[0] > 7 * 160 and sheet.shape[1] > 4 * 160
    image_trees.save(source / "mask" / "1" / "005.png", scenes["mask"][5])
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "mask: 6 of 7 are there already" in done.stdout and (out / "failures.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no expert is given; allowed: --depth, --normal, --mask"),
        (["--depth=midas:x"], "depth is 'midas'"),
        (["--batch=0", "--normal=from-depth"], "batch is 0; allowed: at least 1"),
        (["--size=3", "--normal=from-depth"], "size is 3; allowed: 0 for images as they are"),
        (["--worker=2", "--workers=2", "--normal=from-depth"], "--worker is 2 of --workers=2"),
        (["--normal=from-depth", "--images=nowhere"], "folder 'nowhere' does not exist"),
        (["--normal=from-depth", "--out=IN/labels"], "is inside images"),
    ],
)
def test_bad_arguments_end_in_one_line_and_write_nothing(scenes, tmp_path, arguments, message):
    folder = tmp_path / "in" / "rgb"
    arguments = [a.replace("IN", str(folder)) for a in arguments]
    values = {"images": str(folder), "out": str(tmp_path / "out")} | dict(a[2:].split("=", 1) for a in arguments)
    descriptions = {m: values[m] for m in ("depth", "normal", "mask") if m in values}
    numbers = {k: int(values[k]) for k in ("batch", "size") if k in values}
    share = Share(int(values.get("worker", 0)), int(values.get("workers", 1)))
    with pytest.raises(UsageError, match=message) as caught:
        label.label(values["images"], values["out"], descriptions, share=share, **numbers)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_an_expert_that_always_fails_ends_in_an_error(scenes, tmp_path):
    with pytest.raises(RunError, match="7 labels failed, listed in .*normal of 0/000.png: depth .*no such file"):
        label.label(str(tmp_path / "in" / "rgb"), str(tmp_path / "out"), {"normal": "from-depth"})


# ---- labels that are there already ----


def run(tmp_path, out="out", **settings):
    """Labels tmp/in/rgb by the labels that are there; returns what differs from `settings`."""
    given = {"depth": f"precomputed:{tmp_path}/in/depth", "normal": "from-depth"} | settings
    size = given.pop("size", 0)
    described = {m: d for m, d in given.items() if d}
    label.label(str(tmp_path / "in" / "rgb"), str(tmp_path / out), described, size=size)


def contents(folder):
    return {path: path.read_bytes() for path in folder.glob("*/**/*.png")}  # without the picture to look at


@pytest.mark.parametrize(
    "first, then, message",
    [
        ({}, {"size": 8}, "out/rgb|out/depth was made with size 0 instead of 8"),
        ({"size": 16}, {"size": 8}, "out/rgb was made with size 16 instead of 8"),
        ({"size": 16}, {}, "out/rgb was made with size 16 instead of 0"),
        ({}, {"depth": "", "normal": "", "mask": "precomputed:IN/mask", "size": 8}, "made with size 0 instead of 8"),
        (
            {},
            {"depth": "precomputed:IN/other"},
            "out/depth was made with folder '.*/in/depth' instead of '.*/in/other'",
        ),
        ({}, {"normal": "from-depth:fov=50"}, "out/normal was made with fov 60.0 instead of 50.0"),
        ({}, {"normal": "from-depth:near=2"}, "out/normal was made with near 1.0 instead of 2.0"),
        (
            {},
            {"normal": "precomputed:IN/normal"},
            "out/normal was made with expert 'from-depth' instead of 'precomputed'",
        ),
        ({}, {"depth": "", "normal": "from-depth:far=20"}, "out/normal was made with far 10.0 instead of 20.0"),
    ],
)
def test_labels_of_other_settings_are_refused_and_kept(scenes, tmp_path, first, then, message):
    image_trees.save(tmp_path / "in" / "other" / "0" / "000.png", scenes["depth"][0])
    run(tmp_path, **first)
    before = contents(tmp_path / "out")
    image_trees.save(tmp_path / "in" / "rgb" / "0" / "new.png", scenes["rgb"][0])
    then = {m: d.replace("IN", f"{tmp_path}/in") if isinstance(d, str) else d for m, d in then.items()}
    with pytest.raises(UsageError, match=message) as caught:
        run(tmp_path, **then)
    assert "give another --out, or the same settings, or remove that folder" in str(caught.value)
    assert "\n" not in str(caught.value) and contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "again",
    [
        {},
        {"normal": "from-depth:fov=60"},
        {"normal": "from-depth:far=10,near=1.0"},
        {"depth": "precomputed:in/../in/depth"},
        {"depth": ""},
        {"normal": "", "mask": "precomputed:in/mask"},
    ],
)
def test_new_images_with_the_same_settings_go_on(scenes, tmp_path, again, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(tmp_path)
    for m in ("rgb", "depth", "mask"):
        image_trees.save(tmp_path / "in" / m / "0" / "new.png", scenes[m][0])
    run(tmp_path)
    assert "depth: 7 of 8 are there already" in capsys.readouterr().out
    before = contents(tmp_path / "out")
    run(tmp_path, **again)
    assert before.items() <= contents(tmp_path / "out").items()


def test_normals_remember_the_depth_that_they_started_from(scenes, tmp_path):
    for path in (tmp_path / "in" / "depth").rglob("*.png"):
        image_trees.save(tmp_path / "in" / "other" / path.relative_to(tmp_path / "in" / "depth"), scenes["depth"][0])
    run(tmp_path)
    shutil.rmtree(tmp_path / "out" / "depth")
    with pytest.raises(
        UsageError, match="out/normal was made with folder of depth '.*/in/depth' instead of '.*/in/other'"
    ):
        run(tmp_path, depth=f"precomputed:{tmp_path}/in/other")
    shutil.rmtree(tmp_path / "out" / "normal")
    run(tmp_path, depth=f"precomputed:{tmp_path}/in/other")  # a folder that was removed is made anew
    found = MODALITIES["depth"].read(str(tmp_path / "out" / "depth" / "0" / "002.png"))
    np.testing.assert_array_equal(found, scenes["depth"][0])


def test_other_weights_of_an_expert_are_refused_wherever_they_lie(scenes, tmp_path):
    golden = Path(__file__).parent / "golden" / "tiny_depth_anything"
    shutil.copytree(golden, tmp_path / "weights")
    run(tmp_path, depth=f"depth-anything:{tmp_path}/weights")
    before = contents(tmp_path / "out")
    shutil.move(tmp_path / "weights", tmp_path / "moved")
    run(tmp_path, depth=f"depth-anything:{tmp_path}/moved")
    assert contents(tmp_path / "out") == before
    tensors = safetensors.numpy.load_file(next((tmp_path / "moved").glob("*.safetensors")))
    name = next(iter(tensors))
    safetensors.numpy.save_file(tensors | {name: tensors[name] * 2}, next((tmp_path / "moved").glob("*.safetensors")))
    with pytest.raises(UsageError, match="out/depth was made with weights '[0-9a-f]{16}' instead of '[0-9a-f]{16}'"):
        run(tmp_path, depth=f"depth-anything:{tmp_path}/moved")


def test_labels_that_do_not_say_how_they_were_made_go_on(scenes, tmp_path, capsys):
    run(tmp_path)
    for path in (tmp_path / "out").glob("*.json"):
        path.unlink()
    run(tmp_path)
    assert "out/depth does not say with which settings it was made" in capsys.readouterr().out
    with pytest.raises(UsageError, match="was made with fov 60.0 instead of 50.0"):
        run(tmp_path, normal="from-depth:fov=50")


def test_other_images_of_the_same_names_are_refused_and_others_join(scenes, tmp_path):
    run(tmp_path)
    before = contents(tmp_path / "out")
    image_trees.save(tmp_path / "more" / "rgb" / "new.png", scenes["rgb"][0])
    image_trees.save(tmp_path / "in" / "depth" / "new.png", scenes["depth"][0])
    described = {"depth": f"precomputed:{tmp_path}/in/depth", "normal": "from-depth"}
    for _ in range(2):  # images of other names, from both folders in turns
        label.label(str(tmp_path / "more" / "rgb"), str(tmp_path / "out"), described)
        run(tmp_path)
    assert before.items() <= contents(tmp_path / "out").items() and (tmp_path / "out" / "normal" / "new.png").exists()
    (tmp_path / "in" / "rgb").rename(tmp_path / "in" / "moved")
    with pytest.raises(UsageError, match="depth has a label of '0/000' of an image in .*rgb, not of that in") as caught:
        label.label(str(tmp_path / "in" / "moved"), str(tmp_path / "out"), described)
    assert "or, if the images were moved, change 'images' in" in str(caught.value)
    for m in described:
        path = tmp_path / "out" / f"{m}.json"
        path.write_text(path.read_text().replace(f"{tmp_path}/in/rgb", f"{tmp_path}/in/moved"))
    label.label(str(tmp_path / "in" / "moved"), str(tmp_path / "out"), described)


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100000, "7", "\x00", '{"images": 3}'])
def test_a_damaged_record_of_settings_is_named(scenes, tmp_path, text):
    run(tmp_path)
    (tmp_path / "out" / "depth.json").write_text(text)
    with pytest.raises(UsageError, match="out/depth.json is .*; remove it and its folder, or give another --out"):
        run(tmp_path)


def test_labels_that_exist_are_cropped_like_their_images(tmp_path, rng):
    wide = {m: rng.integers(0, 256, (24, 40, 3)).astype(np.uint8) for m in ("rgb", "mask")}
    wide["depth"] = rng.integers(0, 65536, (24, 40, 1)).astype(np.uint16)
    for m, image in wide.items():
        image_trees.save(tmp_path / "in" / m / "a.png", image)
    described = {m: f"precomputed:{tmp_path}/in/{m}" for m in ("depth", "mask")}
    label.label(str(tmp_path / "in" / "rgb"), str(tmp_path / "out"), described, size=16)
    for m, image in wide.items():
        found = MODALITIES[m].read(str(tmp_path / "out" / m / "a.png"))
        np.testing.assert_array_equal(found, MODALITIES[m].square(image, 16), err_msg=m)
    image_trees.save(tmp_path / "in" / "rgb" / "b.png", wide["rgb"])
    image_trees.save(tmp_path / "in" / "depth" / "b.png", wide["depth"][:, 1:])
    image_trees.save(tmp_path / "in" / "mask" / "b.png", wide["mask"])
    with pytest.raises(RunError, match="1 labels failed, .*depth of b.png: .* has 39x24 pixels; its image has 40x24"):
        label.label(str(tmp_path / "in" / "rgb"), str(tmp_path / "out"), described, size=16)


def test_names_in_two_forms_of_unicode_are_labelled_and_found(tmp_path, scenes):
    folder = tmp_path / "nfd"
    image_trees.save(folder / "rgb" / "e\u0301.png", scenes["rgb"][0])
    image_trees.save(folder / "depth" / "\u00e9.png", scenes["depth"][0])
    described = {"depth": f"precomputed:{folder}/depth", "normal": "from-depth"}
    label.label(str(folder / "rgb"), str(folder / "out"), described)
    for m in described:
        assert (folder / "out" / m / "\u00e9.png").exists()


@pytest.mark.parametrize("link", [True, False])
def test_labels_are_never_written_among_the_images(scenes, tmp_path, link):
    described = {"depth": f"precomputed:{tmp_path}/in/depth"}
    images = tmp_path / "in" / "rgb"
    if link:
        run(tmp_path)
        (images / "labels").symlink_to(tmp_path / "out", target_is_directory=True)
        place, size = tmp_path / "out", 0
    else:  # cropped images would be
        label.label(str(images), str(tmp_path / "in"), {"normal": f"precomputed:{tmp_path}/in/normal"})
        place, size = tmp_path / "in", 16
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="has images in .*/(rgb|depth|normal), where labels are written; give another"):
        label.label(str(images), str(place), described, size=size)
    assert contents(tmp_path) == before
