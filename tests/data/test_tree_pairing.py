"""Labels find their images whatever their names' form, and labels that find none stop the build and say why."""

import image_trees
import numpy as np
import pytest

from mmgen_jax.data.trees import builder, folders, imagenet
from mmgen_jax.data.trees.groups import Reading
from mmgen_jax.system.errors import UsageError

NFC, NFD = "caf\u00e9", "cafe\u0301"


def write(root, m, names):
    channels = 1 if m == "depth" else 3
    for name in names:
        image_trees.save(root / m / name, np.full((16, 16, channels), 9, np.uint16 if m == "depth" else np.uint8))


def plan(root, strict=False):
    return folders.make_plan({m: str(root / m) for m in ("rgb", "depth")}, "none", 0.0, strict, Reading(16))


@pytest.mark.parametrize("image", [NFC, NFD])
@pytest.mark.parametrize("label", [NFC, NFD])
def test_names_match_in_any_form_of_unicode(tmp_path, image, label):
    write(tmp_path, "rgb", [f"{image}/{image}.jpg"])
    write(tmp_path, "depth", [f"{label}/{label}.png"])
    (group,) = plan(tmp_path).splits["train"]
    assert group.files == {
        "rgb": str(tmp_path / "rgb" / image / f"{image}.jpg"),
        "depth": str(tmp_path / "depth" / label / f"{label}.png"),
    }


@pytest.mark.parametrize(
    "image, label, cause",
    [
        ("0.jpg", "0.jpg.png", "'0.jpg' and '0' differ by a second suffix"),
        ("0.JPG", "0.JPG.png", "'0.JPG' and '0' differ by a second suffix"),
        ("img_0.jpg", "IMG_0.png", "'IMG_0' and 'img_0' differ in capital letters"),
        ("Cat/0.jpg", "cat/0.png", "'cat/0' and 'Cat/0' differ in capital letters"),
        ("cat/0.jpg", "0.png", "'0' and 'cat/0' differ in the folders above"),
        ("cat/0.jpg", "depth/cat/0.png", "'depth/cat/0' and 'cat/0' differ in the folders above"),
        ("img_1.jpg", "img_0001.png", "'img_0001' and 'img_1' differ by zeros before a number"),
        ("img 1.jpg", "img1.png", "'img1' and 'img 1' differ by spaces"),
        ("img_1.jpg", "img_1_depth.png", "'img_1_depth' and 'img_1' differ in what stands beside a number"),
        ("rgb_0001.jpg", "depth_0001.png", "'depth_0001' and 'rgb_0001' differ in what stands beside a number"),
        ("dog.jpg", "cat.png", None),
    ],
)
def test_labels_that_fit_no_image_stop_the_build(tmp_path, image, label, cause):
    write(tmp_path, "rgb", [image])
    write(tmp_path, "depth", [label])
    for strict in (False, True):
        with pytest.raises(UsageError) as caught:
            plan(tmp_path, strict)
        message = str(caught.value)
        assert message.startswith(f"no depth in {tmp_path}/depth has the name of an image in {tmp_path}/rgb, such as")
        assert f"'{tmp_path}/depth/{label}' and '{tmp_path}/rgb/{image}'" in message and "\n" not in message
        assert message.endswith("; allowed: the same path below both folders, with any suffix")
        assert (cause in message) if cause else ("differ" not in message)


def test_labels_that_fit_in_part_are_counted_with_their_likely_cause(tmp_path, capsys):
    write(tmp_path, "rgb", [f"img_{i}.jpg" for i in range(5)])
    write(tmp_path, "depth", ["img_0.png", "img_1.png", "IMG_3.png", "IMG_4.png"])
    builder.write(folders.FolderTiles, str(tmp_path / "out"), plan(tmp_path), 1)
    out = capsys.readouterr().out
    assert "depth/IMG_3.png has no rgb 'IMG_3' in" in out
    assert "one of 2; 'IMG_3' and 'img_3' differ in capital letters" in out
    assert "depth is absent from 3 of 5 tiles, the first 'img_2'" in out


@pytest.mark.parametrize("label", ["n01/0.jpg.png", "N01/0.png", "0.png", "train/n01/0.png"])
def test_labels_of_imagenet_that_fit_no_image_stop_the_build(tmp_path, label):
    write(tmp_path, "rgb", ["train/n01/0.png"])
    write(tmp_path, "depth", [f"train/{label}"])
    with pytest.raises(UsageError, match="no depth in .*/depth has the name of an image in .*/rgb, .* differ "):
        imagenet.make_plan(str(tmp_path), None, False, Reading(16))


def test_strays_of_imagenet_are_counted(tmp_path, capsys):
    write(tmp_path, "rgb", ["train/n01/0.png", "val/n01/1.png"])
    write(tmp_path, "depth", ["train/n01/0.png", "val/n01/2.png"])
    imagenet.make_plan(str(tmp_path), None, False, Reading(16))
    assert "depth/val/n01/2.png has no rgb 'val/n01/2' in" in capsys.readouterr().out
    with pytest.raises(UsageError, match="has no rgb 'val/n01/2' in .*, one of 1"):
        imagenet.make_plan(str(tmp_path), None, True, Reading(16))
