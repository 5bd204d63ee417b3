"""Tests the demo command, and galleries that are put together from stored sections."""

import os

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import demo
from mmgen_jax.show import gallery
from mmgen_jax.system.errors import UsageError


@pytest.fixture
def config(model_config):
    model_config.sample.update({"steps": 1, "batch": 16})
    return model_config


def test_sections_come_back_from_a_file(rng, tmp_path):
    shown = {m: rng.integers(0, 256, (2, 4, 4, 3), np.uint8) for m in ("rgb", "depth")}
    sections = [
        gallery.Section("A", shown, "caption", given=("rgb",), rows=("x", "y"), chapter="one"),
        gallery.Section("B", {"depth": shown["depth"]}),
    ]
    gallery.store(tmp_path / "s.npz", sections)
    first, second = gallery.restore(tmp_path / "s.npz")
    assert (first.title, first.caption, first.chapter) == ("A", "caption", "one")
    assert list(first.given) == ["rgb"] and list(first.rows) == ["x", "y"] and list(first.columns) == ["rgb", "depth"]
    np.testing.assert_array_equal(first.columns["depth"], shown["depth"])
    np.testing.assert_array_equal(second.columns["depth"], shown["depth"])


def test_two_models_share_one_gallery(config, model_dir, tmp_path):
    before = config.sample.n
    path = demo.run(config, str(model_dir), str(tmp_path / "out"), "first", "The <first> one")
    assert path == tmp_path / "out" / "gallery.html" and config.sample.n == before
    names = {p.name for p in (tmp_path / "out" / "first").glob("*.png")}
    assert names == {
        f"{n}.png" for n in ("classes", "from_rgb", "from_depth", "from_normal", "from_mask", "inpainting", "variety")
    }
    rows, height = 8, Image.open(tmp_path / "out" / "first" / "classes.png").height
    assert height > rows * 128  # 16 pixels, eight times enlarged

    stored = gallery.restore(tmp_path / "out" / "first" / demo.STORE)
    gallery.store(tmp_path / "out" / "second.npz", stored)  # not in a folder: no model
    (tmp_path / "out" / "second").mkdir()
    gallery.store(tmp_path / "out" / "second" / demo.STORE, [gallery.Section("S", {"rgb": stored[0].columns["rgb 1"]})])
    text = demo.assemble(tmp_path / "out").read_text()
    assert text.count("<section") == len(stored) + 1 and "The &lt;first&gt; one" in text

    variety = stored[-1]
    assert list(variety.rows) == ["depth", "normal", "mask"] and len(variety.columns) == 1 + demo.COPIES
    assert (variety.columns["sample 1"] != variety.columns["sample 2"]).any()
    assert "depth error" in stored[1].columns and "rgb error" not in stored[2].columns


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_bad_names_are_named(config, model_dir, tmp_path, name):
    with pytest.raises(UsageError, match="--name is"):
        demo.run(config, str(model_dir), str(tmp_path / "out"), name)
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written_are_named_before_sampling(config, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(demo.MMGen, "load", None)
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="--out .*/out/x cannot be written: .*/out is a file"):
        demo.run(config, str(model_dir), str(tmp_path / "out"), "x")


def test_other_models_are_named(config, model_dir, tmp_path):
    config.model.depth = 3
    with pytest.raises(UsageError, match="config key model.depth is 3"):
        demo.run(config, str(model_dir), str(tmp_path / "out"), "x")


@pytest.mark.parametrize("kind", ["text", "FIFO", "foreign", "objects", "columns"])
def test_sections_of_others_that_are_damaged_are_told_before_any_work(model_config, model_dir, tmp_path, kind):
    path = tmp_path / "out" / "other" / demo.STORE
    path.parent.mkdir(parents=True)
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("x")
    else:
        meta = {"foreign": "[3]", "objects": object(), "columns": '[{"title": "a", "columns": ["x"]}]'}[kind]
        np.savez(path, meta=np.array(meta))
    with pytest.raises(UsageError, match=r"other/sections.npz is (damaged, or not of the command|a FIFO)"):
        demo.run(model_config, model_dir, tmp_path / "out", "new")
    assert not (tmp_path / "out" / "new").exists()
