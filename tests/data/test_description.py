"""What data sets say of themselves: damage is named in one line, and so is what makes no sense."""

import json
import os
import pathlib
import shutil
import subprocess

import damage
import numpy as np
import pytest

from mmgen_jax.data import description, tiles, train_data
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import sealed
from mmgen_jax.system.errors import UsageError

LABELS, FEATURES = "class_id.labels.txt", "features.json"
FILES = (description.INFO, FEATURES, description.METADATA, LABELS, sealed.FILE)


@pytest.fixture
def folder(tiles_dir, tmp_path):
    (info,) = pathlib.Path(tiles_dir).rglob(description.INFO)
    return shutil.copytree(info.parent, tmp_path / "set" / "1.0.0")


@pytest.fixture
def unsealed(folder):
    """A data set as older versions, or other programs, wrote it."""
    (folder / sealed.FILE).unlink()
    return folder


def opened(folder):
    """All that is read before training."""
    data = train_data.open_tiles(folder, "test", NAMES, 16, False)
    return len(data.source), data.facts.class_names, tiles.image_size(folder), tiles.read_metadata(folder)


def refused(folder, *words):
    damage.refused(lambda: opened(folder), 1500, *words)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_named(folder, name):
    for _ in damage.flips(folder / name):
        refused(folder, name)
    opened(folder)


@pytest.mark.parametrize("name", FILES[:4])
def test_damage_that_nothing_tells_is_no_traceback(unsealed, name):
    for _ in damage.flips(unsealed / name):
        try:
            opened(unsealed)
        except UsageError as error:
            assert "\n" not in str(error)  # noqa: PT017 a flipped digit may be another number that makes sense


def test_a_flipped_bit_of_a_shard_is_named_or_changes_nothing(folder):
    (shard,) = folder.glob("*test.array_record*")

    def records():
        source = tiles.read_tiles(folder, "test")
        return [tiles.decode_tile(source[i]) for i in range(len(source))]

    before, named = records(), 0
    for which in damage.flips(shard):
        try:
            after = records()
        except UsageError as error:
            assert shard.name in str(error), which
            named += 1
            continue
        for a, b in zip(before, after, strict=True):
            assert all(np.array_equal(a[key], b[key]) for key in a), which
    assert named > 10  # most of a shard this small is padding


def test_a_set_without_checksums_opens_with_one_line_and_sha256sum_seals_it(unsealed, capsys):
    before = opened(unsealed)
    assert before[:3] == (24, tiles.class_names(unsealed), (16, 16))
    assert capsys.readouterr().out == f"{unsealed} has no SHA256SUMS: damage to its files would not be noticed\n"
    subprocess.run("sha256sum *.json *.txt > SHA256SUMS", shell=True, cwd=unsealed, check=True)
    assert opened(unsealed) == before
    for _ in damage.flips(unsealed / LABELS, 3):
        refused(unsealed, LABELS)


@pytest.mark.parametrize("name", FILES[:4])
@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 100_000, b"{", b"[]", b"null", b"3", b"{}", None])
def test_files_that_are_something_else(unsealed, name, data):
    if data is None:
        (unsealed / name).unlink()
    else:
        (unsealed / name).write_bytes(data)
    if name == description.METADATA and data in (None, b"{}"):
        assert opened(unsealed)[3] == {}  # a data set may say nothing of its images
    elif name == LABELS and data == b"" or name == LABELS and data is None:
        assert opened(unsealed)[1] == tuple("01234567")  # classes may have numbers for names
    else:
        refused(unsealed, "data" if name == description.INFO else "")


def spoiled(folder, name, change):
    stored = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(stored)))


@pytest.mark.parametrize(
    "entry, value",
    [
        *[("palette", [[c, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0]]) for c in (300, -1, 0.5, "x", None, True, [1])],
        *[("palette", value) for value in ([], [[0, 0]] * 4, [[0, 0, 0]] * 5, "red", {}, None, 3, [1, 2, 3, 4])],
        *[("regions", value) for value in ([], ["a"] * 4, [1, 2, 3, 4], "abcd", {}, None, ["a", "b", "c", ""])],
        *[("depth_range", value) for value in ([1], [1, 2, 3], [2, 1], [0, 1], [-1, 1], ["1", "2"], 3, [1, 1e999])],
        *[("fov_degrees", value) for value in (0, -40, 180, 1e999, float("nan"), "40", [40], True)],
    ],
)
def test_metadata_that_makes_no_sense(unsealed, entry, value):
    spoiled(unsealed, description.METADATA, lambda stored: stored | {entry: value})
    refused(unsealed, "metadata.json", "palette" if entry == "regions" and value == [] else entry)


def counts(value):
    def change(stored):
        stored["splits"][1]["shardLengths"] = value
        return stored

    return change


@pytest.mark.parametrize(
    "value, word",
    [
        (["5"], "has 24 records; dataset_info.json says 5"),
        (["25"], "has 24 records; dataset_info.json says 25"),
        (["24", "24"], "no such file"),
        (["-1"], "shardLengths of test is -1"),
        (["0"], "empty"),
        ([], ""),
        (["x"], "dataset_info.json"),
        ("24", "dataset_info.json"),
        ([1e30], "dataset_info.json"),
        (None, ""),
    ],
)
def test_counts_that_are_not_those_of_the_files(unsealed, value, word):
    spoiled(unsealed, description.INFO, counts(value))
    refused(unsealed, word)


@pytest.mark.parametrize(
    "text, word",
    [
        ("a\n" * 8, "all different"),
        ("a\nb\nc\nd\n", ""),
        ("\n".join("abcdefghi"), ""),
        ("a\x1b[2J\n" + "\n".join("bcdefgh"), "all different"),
    ],
)
def test_class_names_that_make_no_sense(unsealed, text, word):
    (unsealed / LABELS).write_text(text)
    refused(unsealed, word)


def test_as_many_names_as_a_file_claims_are_not_made(unsealed):
    (unsealed / LABELS).unlink()

    def change(stored):
        stored["featuresDict"]["features"]["class_id"]["classLabel"]["numClasses"] = str(2**62)
        return stored

    spoiled(unsealed, FEATURES, change)
    refused(unsealed, "numClasses is 4611686018427387904; it must be a number 0 to 1e+07")


@pytest.mark.parametrize(
    "entry, value",
    [
        *[("fileFormat", value) for value in ("tfrecord", "riegeli", "parquet", "", None, 3, "ARRAY_RECORD")],
        *[("name", value) for value in ("../x", "", None, "a b", "x" * 300, 3)],
        *[("version", value) for value in ("1", "x", "", None, 1.5)],
        *[("splits", value) for value in ([], {}, [1], "test", None)],
    ],
)
def test_info_that_makes_no_sense(unsealed, entry, value):
    spoiled(unsealed, description.INFO, lambda stored: stored | {entry: value})
    refused(unsealed)


@pytest.mark.parametrize("template", ["../{DATASET}", "{X}", "{", "{DATASET}", "{SPLIT}.x", "/dev/zero", 3, [], "\0"])
def test_names_of_shards_that_make_no_sense(unsealed, template):
    def change(stored):
        stored["splits"][1]["filepathTemplate"] = template
        return stored

    spoiled(unsealed, description.INFO, change)
    refused(unsealed)


def test_classes_beyond_the_names(unsealed):
    """The table is cut in both places that hold it."""
    (unsealed / LABELS).write_text("a\nb\nc\nd\n")

    def change(stored):
        stored["featuresDict"]["features"]["class_id"]["classLabel"]["numClasses"] = "4"
        return stored

    spoiled(unsealed, FEATURES, change)
    source = tiles.read_tiles(unsealed, "test")
    with pytest.raises(UsageError, match=r"record \d+ of .*array_record.* has class_id [4-7]; the data set names 4 "):
        [source[i] for i in range(len(source))]


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda f: f["depth"]["image"].update(dtype="uint8"), "depth has channels and type"),
        (lambda f: f["rgb"]["image"]["shape"].update(dimensions=["16", "16", "4"]), "rgb has channels and type"),
        (lambda f: f["rgb"].update(pythonClassName="os.system"), FEATURES),
        (lambda f: f["rgb"].update(pythonClassName="nowhere.Image"), FEATURES),
        (lambda f: f["rgb"].pop("pythonClassName"), FEATURES),
        (lambda f: f.pop("class_id"), FEATURES),
        (lambda f: f["class_id"]["classLabel"].update(numClasses="-3"), FEATURES),
        (lambda f: f["class_id"]["classLabel"].update(numClasses="9"), FEATURES),
        (lambda f: f.update(class_id=f["key"]), FEATURES),
        (lambda f: f.update(rgb=f["key"]), FEATURES),
        (lambda f: [f.pop(name) for name in NAMES], "no feature is one of rgb, depth, normal, mask"),
    ],
)
def test_features_that_make_no_sense(unsealed, change, word):
    def apply(stored):
        change(stored["featuresDict"]["features"])
        return stored

    spoiled(unsealed, FEATURES, apply)
    refused(unsealed, word)


@pytest.mark.parametrize("make, word", [(os.mkfifo, "FIFO"), (os.mkdir, "folder"), (None, "device")])
def test_other_things_where_files_belong(folder, make, word):
    (shard,) = folder.glob("*test.array_record*")
    for path in (*(folder / name for name in FILES), shard):
        kept = path.read_bytes()
        path.unlink()
        if make:
            make(path)
        else:
            path.symlink_to("/dev/zero")
        refused(folder, path.name, word)
        path.rmdir() if make is os.mkdir else path.unlink()
        path.write_bytes(kept)
    opened(folder)
