"""Model folders in the layout of the hub: round trips, model cards, hub ids, and other folders."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import damage
import jax
import numpy as np
import pytest
import tiny_model
import yaml
from annotations import unchecked
from safetensors.numpy import load_file

from mmgen_jax import MMGen
from mmgen_jax.checkpoints import model_card, pretrained, weights
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.tensor_files import hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(model_dir):
    return MMGen.load(model_dir)


def same(a, b):
    assert a.architecture.to_json() == b.architecture.to_json()
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(np.asarray(x), np.asarray(y)), a._params, b._params)


def test_what_is_saved_loads_bit_by_bit(model, tmp_path):
    model.save_pretrained(tmp_path / "mine")
    found = {path.name for path in (tmp_path / "mine").iterdir()}
    assert found == set(pretrained.FILES)
    for load in (MMGen.from_pretrained, MMGen.load):
        same(load(tmp_path / "mine"), model)
    stored = load_file(tmp_path / "mine" / "model.safetensors")
    assert {array.dtype for array in stored.values()} == {np.dtype(np.float32)}
    assert json.loads((tmp_path / "mine" / "config.json").read_text())["library_name"] == "mmgen_jax"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    sums = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "mine", capture_output=True, check=False
    )
    assert sums.returncode == 0


def test_half_of_the_bytes_and_the_same_samples_again(model, tmp_path):
    model.save_pretrained(tmp_path / "half", dtype="float16")
    half = MMGen.from_pretrained(tmp_path / "half")
    half.save_pretrained(tmp_path / "again", dtype="float16")
    again = MMGen.from_pretrained(tmp_path / "again")
    same(half, again)
    for m, value in half.generate(n=1, steps=1).items():
        np.testing.assert_array_equal(value, again.generate(n=1, steps=1)[m])


def test_a_bundled_model_by_its_name():
    same(MMGen.from_pretrained("shapes-tiny"), MMGen.load("shapes-tiny"))


def test_the_card_is_read_by_the_hub_and_what_it_says_works(model, tmp_path):
    model.save_pretrained(tmp_path / "mine", license="apache-2.0")
    text = (tmp_path / "mine" / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["library_name"] == "mmgen_jax" and header["license"] == "apache-2.0"
    assert {"mmgen", "jax", "depth-estimation", "normal-estimation", "image-segmentation"} <= set(header["tags"])
    assert "rgb, depth, normal, mask together at 16 x 16 pixels, of the classes sphere, box" in text
    numbers = sum(leaf.size for leaf in jax.tree.leaves(tiny_model.build()[1]))
    assert f"{numbers:,}\nparameters" in text
    [python] = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    done = subprocess.run(
        [sys.executable, "-c", python.replace("n=4", "n=1, steps=1")],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "samples" / "gallery.html").exists()
    assert "python -m mmgen_jax.app --workdir=mine\n" in text


def test_the_card_of_a_model_of_rgb_alone_promises_no_predictions(tmp_path):
    architecture, params = tiny_model.part(("rgb",), 0)
    text = model_card.text("a", architecture, params, "mit")
    assert (
        "depth" not in text and "together" not in text and "given" not in text.replace("each modality can be given", "")
    )


def test_a_card_that_people_wrote_in_is_kept(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    same(MMGen.from_pretrained(tmp_path), model)


def test_a_hub_id_comes_from_the_hub(model, tmp_path, monkeypatch):
    """The folder that `save_pretrained` wrote stands for the snapshot of a repository."""
    model.save_pretrained(tmp_path / "mine")
    asked = []

    def snapshot(name, allow_patterns):
        asked.append((name, set(allow_patterns)))
        return str(tmp_path / "mine")

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    same(MMGen.from_pretrained("org/mine"), model)
    assert asked == [("org/mine", set(pretrained.FILES))]


def test_a_hub_id_that_cannot_be_fetched(monkeypatch):
    def offline(name, allow_patterns):
        raise hub.LocalEntryNotFoundError("no network\nand more")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    damage.refused(lambda: MMGen.from_pretrained("org/name"), 300, "'org/name'", "cannot be fetched from the hub")


@pytest.mark.parametrize(
    "config, words",
    [
        ({"_class_name": "AutoencoderKL"}, "its config.json says _class_name 'AutoencoderKL'"),
        ({"model_type": "bert", "architectures": ["Bert"]}, "its config.json says model_type 'bert', architectures"),
        ({}, "model.json is missing"),
        (None, "model.json is missing"),
    ],
)
def test_folders_of_other_libraries(tmp_path, config, words):
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    damage.refused(lambda: MMGen.from_pretrained(tmp_path), 300, str(tmp_path), "is not a model of mmgen_jax", words)


@pytest.mark.parametrize("name", ["nowhere", "", None, 3, "a\0b", "s3://a/b", b"\xff"])
def test_names_that_are_none(name):
    damage.refused(lambda: MMGen.from_pretrained(name), 300)


def test_damaged_and_missing_files(model, tmp_path):
    model.save_pretrained(tmp_path)
    for name in ("model.json", "autoencoder.safetensors", "model.safetensors"):
        for _ in damage.flips(tmp_path / name, 3):
            damage.refused(lambda: MMGen.from_pretrained(tmp_path), 1000, name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        damage.refused(lambda: MMGen.from_pretrained(tmp_path), 1000, name)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "config.json").write_text("{")
    damage.refused(lambda: MMGen.from_pretrained(tmp_path), 1000, "config.json")


@pytest.mark.parametrize(
    "options, word",
    [
        ({"dtype": "int8"}, "dtype"),
        ({"dtype": None}, "dtype"),
        ({"license": "My own"}, "license"),
        ({"license": 3}, ""),
    ],
)
def test_options_that_are_not_allowed(model, tmp_path, options, word):
    damage.refused(lambda: model.save_pretrained(tmp_path / "a", **options), 300, word)
    assert not list(tmp_path.iterdir())


def test_places_that_are_taken(model, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    MMGen(*tiny_model.part(("rgb",), 0)).save_pretrained(tmp_path / "other")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    for name, word in (
        ("file", "is a file"),
        ("full", "holds no model"),
        ("other", "another model"),
        ("run", "workdir"),
    ):
        damage.refused(lambda name=name: model.save_pretrained(tmp_path / name), 300, str(tmp_path / name), word)
    for name in (None, "", 3):
        damage.refused(lambda name=name: model.save_pretrained(name), 300, "folder")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_disk_that_fails_leaves_nothing(model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save_params", full)
    with unchecked(), pytest.raises(RunError, match="cannot be written.*No space left") as caught:
        model.save_pretrained(tmp_path / "a")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_no_network_is_asked_for_what_is_no_id():
    with unchecked(), pytest.raises(UsageError, match="allowed: a folder, a file, or a hub id"):
        MMGen.from_pretrained("a/b/c")
