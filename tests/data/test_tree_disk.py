"""What a user's disk holds: every image that a person sees there is found, and nothing else; the rest is named."""

import os
import socket

import image_trees
import numpy as np
import pytest

from mmgen_jax.data import tiles
from mmgen_jax.data.trees import builder, folders, groups, hypersim, imagenet
from mmgen_jax.data.trees.groups import Reading
from mmgen_jax.experts import labelling
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import ALL

HIDDEN = (
    ".ipynb_checkpoints/0.png",
    ".Trash-1000/files/0.png",
    ".git/0.png",
    "@eaDir/0.png/SYNOFILE_THUMB_M.jpg",
    "@eaDir/1.png",
    "#recycle/0.png",
    "$RECYCLE.BIN/0.png",
    "System Volume Information/0.png",
    "__MACOSX/0.png",
    "__MACOSX/cat/._0.png",
    "lost+found/0.png",
    "cat/.ipynb_checkpoints/0-checkpoint.png",
    "cat/._0.png",
    "cat/.0.png",
    "cat/@eaDir/0.png",
    "cat/.DS_Store",
    "cat/Thumbs.db",
    "cat/thumbs.DB",
    "cat/Desktop.ini",
    ".DS_Store",
)


def put(path, value: int = 7) -> None:
    """Writes an image of one grey, or an empty file where no image is named."""
    if path.suffix in (".png", ".jpg"):
        image_trees.save(path, np.full((16, 16, 3), value, np.uint8))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.fixture
def photos(tmp_path):
    """photos/{cat,dog}/{0,1}.png, below a folder that is hidden itself."""
    root = tmp_path / ".cache" / "photos"
    for i, name in enumerate(("cat/0", "cat/1", "dog/0", "dog/1")):
        put(root / f"{name}.png", i)
    return root


def plan(root, classes="folders", **labels):
    return folders.make_plan({"rgb": str(root)} | labels, classes, 0.0, False, Reading(16))


SEEN = ["cat/0", "cat/1", "dog/0", "dog/1"]


@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_and_system_files_are_neither_tiles_nor_classes_nor_labelled(photos, name, capsys):
    put(photos / name)
    assert list(groups.find(photos)) == SEEN
    assert plan(photos).class_names == ("cat", "dog")
    assert [job.key for job in labelling.find_jobs(str(photos), ALL)] == SEEN
    assert "left out" not in capsys.readouterr().out


def test_other_files_are_counted_and_named(photos, capsys):
    for name in ("cat/0.psd", "cat/1.PSD", "dog/notes.txt", "README"):
        put(photos / name)
    assert list(groups.find(photos)) == SEEN
    out = capsys.readouterr().out
    assert "left out: 4 files" in out and ".psd 2" in out and ".txt 1" in out and "no suffix 1" in out


def test_linked_folders_and_files_are_followed(photos, tmp_path):
    put(tmp_path / "pool" / "deep" / "5.png", 50)
    put(tmp_path / "single.png", 60)
    (photos / "bird").symlink_to(tmp_path / "pool", target_is_directory=True)
    (photos / "ant").mkdir()
    (photos / "ant" / "9.png").symlink_to(tmp_path / "single.png")
    made = plan(photos)
    assert made.class_names == ("ant", "bird", "cat", "dog")
    path = builder.write(folders.FolderTiles, str(tmp_path / "out"), made, 1)
    source = tiles.read_tiles(path, "train")
    found = {source[i]["key"].decode(): tiles.decode_tile(source[i]) for i in range(len(source))}
    shown = {key: (int(tile["class_id"]), int(tile["rgb"][0, 0, 0])) for key, tile in found.items()}
    assert shown == {
        "ant/9": (0, 60),
        "bird/deep/5": (1, 50),
        "cat/0": (2, 0),
        "cat/1": (2, 1),
        "dog/0": (3, 2),
        "dog/1": (3, 3),
    }


@pytest.mark.parametrize(
    "link, target",
    [
        ("cat/loop", "."),
        ("cat/up", ".."),
        ("cat/dog", "../dog"),
        ("bird", "cat"),
        ("all", "../photos"),
        ("x/y", ".."),
    ],
)
def test_a_folder_that_links_reach_twice_is_refused(photos, link, target):
    (photos / link).parent.mkdir(parents=True, exist_ok=True)
    (photos / link).symlink_to(target, target_is_directory=True)
    with pytest.raises(UsageError, match="are the same folder, by a link; only one may stay"):
        groups.find(photos)


def test_two_links_to_one_folder_are_refused(photos, tmp_path):
    put(tmp_path / "pool" / "5.png")
    for name in ("bird", "vogel"):
        (photos / name).symlink_to(tmp_path / "pool", target_is_directory=True)
    with pytest.raises(UsageError, match="photos/(bird|vogel)' and .*photos/(bird|vogel)' are the same folder"):
        groups.find(photos)


@pytest.mark.parametrize("link", ["bird", "cat/more", "notes.txt"])
@pytest.mark.parametrize("target", ["nowhere", "/nowhere/at/all", "itself"])
def test_a_link_that_leads_nowhere_is_named(photos, link, target):
    (photos / link).symlink_to((photos / link).name if target == "itself" else target)
    with pytest.raises(UsageError, match=f"{link}' is a link to .*, which leads nowhere; mend or remove it"):
        plan(photos)


def test_a_broken_link_in_place_of_an_image_is_left_out_and_listed(photos, tmp_path, capsys):
    (photos / "cat" / "gone.png").symlink_to("nowhere.png")
    path = builder.write(folders.FolderTiles, str(tmp_path / "out"), plan(photos), 1)
    assert len(tiles.read_tiles(path, "train")) == 4
    assert "skipped 1 of 5" in capsys.readouterr().out
    assert "cat/gone.png" in next((tmp_path / "out").rglob("skipped.jsonl")).read_text()


@pytest.mark.parametrize("name", ["cat/f.png", "cat/f.txt", "pipe"])
@pytest.mark.parametrize("kind", ["fifo", "socket", "link"])
def test_what_is_neither_file_nor_folder_is_named_at_once(photos, name, kind, monkeypatch):
    monkeypatch.chdir((photos / name).parent)  # names of sockets must be short
    if kind == "fifo":
        os.mkfifo(photos / name)
    elif kind == "link":
        (photos / name).symlink_to("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind((photos / name).name)
    with pytest.raises(UsageError, match=f"{name}' is neither a file nor a folder; remove it"):
        groups.find(photos)


@pytest.mark.parametrize("name", [b"cat/\xff.png", b"\xe9/0.png"])
def test_names_that_are_not_utf8_are_refused(photos, name):
    path = os.path.join(os.fsencode(photos), name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb"):
        pass
    with pytest.raises(UsageError, match=r"has a name that is not UTF-8; rename it"):
        groups.find(photos)


@pytest.mark.parametrize("name", ["e\u0301", "\u00e9"])
def test_keys_and_classes_are_in_composed_form(tmp_path, name):
    put(tmp_path / "rgb" / name / f"{name}.png")
    made = plan(tmp_path / "rgb")
    assert made.class_names == ("\u00e9",)
    assert [group.key for group in made.splits["train"]] == ["\u00e9/\u00e9"]
    assert [job.name for job in labelling.find_jobs(str(tmp_path / "rgb"), ALL)] == ["\u00e9/\u00e9.png"]


@pytest.mark.parametrize("names", [("e\u0301/0.png", "\u00e9/1.png"), ("a/e\u0301.png", "a/\u00e9.png")])
def test_one_name_in_two_forms_is_refused(tmp_path, names):
    for name in names:
        put(tmp_path / "rgb" / name)
    with pytest.raises(UsageError, match="have the same name in two forms of Unicode; only one may stay"):
        groups.find(tmp_path / "rgb")


def test_two_files_of_one_key_are_refused(tmp_path):
    for name in ("a/e\u0301.png", "a/\u00e9.jpg"):
        put(tmp_path / "rgb" / name)
    with pytest.raises(UsageError, match="have the same name in two forms|have the same name; only one may stay"):
        groups.find(tmp_path / "rgb")


@pytest.mark.parametrize("inside", [None, "notes.txt", ".hidden.png", "deeper/"])
def test_an_empty_class_stops_the_build(photos, inside):
    (photos / "bird").mkdir()
    if inside == "deeper/":
        (photos / "bird" / "deeper").mkdir()
    elif inside:
        put(photos / "bird" / inside)
    with pytest.raises(UsageError, match="class 'bird' of .*photos has no images, one of 1; fill or remove its folder"):
        plan(photos)
    assert plan(photos, classes="none").class_names == ()


@pytest.mark.parametrize("name", [" cat", "cat ", "a\nb", "a\tb", "a\u2028b", "\x1b[31m"])
def test_class_names_that_a_list_in_a_file_cannot_keep_are_refused(tmp_path, name):
    put(tmp_path / "rgb" / name / "0.png")
    with pytest.raises(UsageError, match="has spaces at its ends or control characters, which TFDS does not keep") as e:
        builder.write(folders.FolderTiles, str(tmp_path / "out"), plan(tmp_path / "rgb"), 1)
    assert str(e.value).isprintable() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a b", "[x]*?", "\u732b", "\U0001f468\u200d\U0001f469", "1", "a\\b", "CAT", "it's"])
def test_class_names_of_any_script_are_kept(tmp_path, name):
    for folder in (name, "zz"):
        put(tmp_path / "rgb" / folder / "0.png")
    path = builder.write(folders.FolderTiles, str(tmp_path / "out"), plan(tmp_path / "rgb"), 1)
    assert tiles.class_names(path) == tuple(sorted((name, "zz")))


# ---- ImageNet ----

SYNSETS = ("n01440764", "n01443537", "n01484850")


@pytest.fixture
def tree(tmp_path):
    """rgb/train of three synsets, one image each."""
    for i, synset in enumerate(SYNSETS):
        put(tmp_path / "imagenet" / "rgb" / "train" / synset / "0.png", i)
    return tmp_path / "imagenet"


def imagenet_plan(tree, synsets=None, strict=False):
    return imagenet.make_plan(str(tree), synsets and str(synsets), strict, Reading(16))


def test_a_linked_synset_keeps_its_row(tree, tmp_path):
    folder = tree / "rgb" / "train" / SYNSETS[1]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    made = imagenet_plan(tree)
    assert made.class_names == SYNSETS
    assert {group.key: group.class_id for group in made.splits["train"]} == {f"{s}/0": i for i, s in enumerate(SYNSETS)}


def test_an_empty_synset_stops_or_keeps_its_row(tree, tmp_path, capsys):
    (tree / "rgb" / "train" / SYNSETS[1] / "0.png").unlink()
    with pytest.raises(UsageError, match="class 'n01443537' of .*train has no images, one of 1"):
        imagenet_plan(tree)
    names = tmp_path / "synsets.txt"
    names.write_text("\ufeff" + "".join(f"{s}\tname {i}, other\n\n" for i, s in enumerate((*SYNSETS, "n99"))))
    for there in (True, False):
        if not there:
            (tree / "rgb" / "train" / SYNSETS[1]).rmdir()
        with pytest.raises(UsageError, match="class 'n01443537' of .*train has no images, one of 2"):
            imagenet_plan(tree, names, strict=True)
        made = imagenet_plan(tree, names)
        assert made.class_names == ("name 0", "name 1", "name 2", "name 3")
        assert {group.key: group.class_id for group in made.splits["train"]} == {"n01440764/0": 0, "n01484850/0": 2}
        assert "2 of 4 classes have no images and keep their rows, the first n01443537" in capsys.readouterr().out


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "@eaDir", "__MACOSX"])
def test_system_folders_are_no_synsets(tree, name):
    put(tree / "rgb" / "train" / name / "0.png")
    assert imagenet_plan(tree).class_names == SYNSETS


@pytest.mark.parametrize(
    "text, message",
    [
        (b"n01440764 tench\nn01440764 goldfish\n", "line 2 of .* names n01440764 again; allowed: one line for each"),
        (b"n01440764 t\xe9nch\n", "is not a text file in UTF-8|UTF-8"),
        (b"n01440764 tench\n", "class folder n01443537 is not in .*synsets.txt, one of 2"),
    ],
)
def test_files_of_synsets_that_do_not_fit(tree, tmp_path, text, message):
    (tmp_path / "synsets.txt").write_bytes(text)
    with pytest.raises(UsageError, match=message):
        imagenet_plan(tree, tmp_path / "synsets.txt")


# ---- Hypersim ----


@pytest.fixture
def scenes(tmp_path):
    image_trees.hypersim(tmp_path)
    return tmp_path


def hypersim_plan(root, train="ai_001_001\n", test="ai_002_001\n", strict=False):
    (root / "train.txt").write_text(train)
    (root / "test.txt").write_text(test)
    splits = {"train": str(root / "train.txt"), "test": str(root / "test.txt")}
    return hypersim.make_plan(str(root / "processed"), splits, strict, Reading(16))


@pytest.mark.parametrize("again", ["ai_001_001", "ai_001_001/", "./ai_001_001", " ai_001_001 \r"])
def test_a_scene_that_is_named_twice_counts_once(scenes, again, capsys):
    made = hypersim_plan(scenes, train=f"\ufeffai_001_001\n{again}\n")
    assert [group.key for group in made.splits["train"]] == [f"ai_001_001/cam_00/frame.000{i}" for i in range(2)]
    assert "names 1 scenes more than once, which count once, the first 'ai_001_001'" in capsys.readouterr().out
    with pytest.raises(UsageError, match="scene 'ai_001_001' is in both split files"):
        hypersim_plan(scenes, test=f"{again}\n")


def test_frames_with_endings_in_capitals_are_frames(scenes):
    camera = scenes / "processed" / "ai_001_001" / "cam_00"
    for m, ending in (("rgb", "png"), ("depth", "vis.png")):
        (camera / m / f"frame.0000.{ending}").rename(camera / m / f"frame.0100.{ending.replace('png', 'PNG')}")
    made = hypersim_plan(scenes)
    found = {group.key.split("/")[-1]: sorted(group.files) for group in made.splits["train"]}
    assert found == {"frame.0100": ["depth", "rgb"], "frame.0001": ["depth", "mask", "normal", "rgb"]}


def test_scenes_without_frames_are_left_out_and_named(scenes, capsys):
    (scenes / "processed" / "ai_003_001" / "cam_00" / "rgb").mkdir(parents=True)
    made = hypersim_plan(scenes, train="ai_003_001\nai_009_009\nai_001_001\n")
    assert len(made.splits["train"]) == 2
    assert "left out: scene 'ai_003_001' has no frames in" in (out := capsys.readouterr().out) and "one of 2" in out
    with pytest.raises(UsageError, match="scene 'ai_003_001' has no frames in .*, one of 2"):
        hypersim_plan(scenes, train="ai_003_001\nai_009_009\nai_001_001\n", strict=True)
    with pytest.raises(UsageError, match="scene 'ai_009_009' has no frames in .*, one of 1"):
        hypersim_plan(scenes, test="ai_009_009\n")


@pytest.mark.parametrize("scene", ["/ai_001_001", "../processed/ai_001_001", "ai_002_001/../ai_001_001"])
def test_scenes_are_folders_below_the_root(scenes, scene):
    with pytest.raises(UsageError, match="names the scene .*; allowed: folders below the root"):
        hypersim_plan(scenes, train=f"{scene}\n")


def test_hidden_frames_and_cameras_are_none_and_linked_ones_are(scenes):
    camera = scenes / "processed" / "ai_001_001" / "cam_00"
    put(camera / "rgb" / "._frame.0000.png")
    put(camera / "rgb" / "@eaDir" / "frame.0000.png")
    camera.rename(scenes / "elsewhere")
    camera.symlink_to(scenes / "elsewhere", target_is_directory=True)
    assert [len(group.files) for group in hypersim_plan(scenes).splits["train"]] == [4, 4]


def test_a_modality_of_hypersim_that_fits_no_frame_stops(scenes):
    for path in list(scenes.rglob("frame.*.vis.png")):
        if path.parent.name == "depth":
            path.rename(path.with_name(path.name.replace(".vis", ".preview")))
    with pytest.raises(UsageError, match="no depth in .*processed has the name of an image in .*'.*preview.png' and"):
        hypersim_plan(scenes)


def test_a_camera_that_links_lead_to_twice_is_refused(scenes):
    (scenes / "processed" / "ai_002_001" / "cam_01").symlink_to(scenes / "processed" / "ai_001_001" / "cam_00")
    with pytest.raises(UsageError, match="cam_01' and .*cam_00' are the same folder, by a link; only one may stay"):
        hypersim_plan(scenes)


@pytest.mark.parametrize("name", ["cam_01", "cam_00/depth", "cam_00/mask"])
def test_broken_links_in_a_scene_are_named(scenes, name):
    place = scenes / "processed" / "ai_001_001" / name
    if place.exists():
        place.rename(scenes / "gone")
    place.symlink_to("nowhere")
    with pytest.raises(UsageError, match=f"{name}' is a link to 'nowhere', which leads nowhere; mend or remove it"):
        hypersim_plan(scenes)


def test_a_pipe_among_frames_is_named_at_once(scenes):
    os.mkfifo(scenes / "processed" / "ai_001_001" / "cam_00" / "rgb" / "frame.0005.png")
    with pytest.raises(UsageError, match="frame.0005.png' is neither a file nor a folder; remove it"):
        hypersim_plan(scenes)


@pytest.mark.parametrize("name", ["depth", "rgb/val", "rgb/train/n09"])
def test_broken_links_in_an_imagenet_tree_are_named(tree, name):
    (tree / name).symlink_to("nowhere")
    with pytest.raises(UsageError, match=f"{name}' is a link to 'nowhere', which leads nowhere; mend or remove it"):
        imagenet_plan(tree)


def test_a_test_split_that_is_a_link_to_the_train_split_is_refused(tree):
    (tree / "rgb" / "val").symlink_to("train")
    with pytest.raises(UsageError, match="rgb/val' and .*rgb/train' are the same folder, by a link"):
        imagenet_plan(tree)


@pytest.mark.parametrize("kind", ["no such file", "is a folder; allowed: a file", "is a FIFO; allowed: a file"])
@pytest.mark.parametrize("flag", ["synsets", "split"])
def test_lists_must_be_files(tree, scenes, kind, flag):
    path = scenes / "list.txt"
    if "folder" in kind:
        path.mkdir()
    elif "FIFO" in kind:
        os.mkfifo(path)
    with pytest.raises(UsageError, match=f"list.txt:? {kind}"):
        if flag == "synsets":
            imagenet_plan(tree, path)
        else:
            hypersim.make_plan(str(scenes / "processed"), {"train": str(path)}, False, Reading(16))
