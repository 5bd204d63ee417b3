"""Names of folders: they work from end to end, or are refused in one line before anything is written."""

import os
import shutil
import sys
import types
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax import MMGen, demo, encode, export, train, verify
from mmgen_jax.checkpoints import model_folders, restore
from mmgen_jax.checkpoints.saver import Saver
from mmgen_jax.data import tiles
from mmgen_jax.data.latents import dataset
from mmgen_jax.data.shapes import builder
from mmgen_jax.data.trees import disk, groups, hypersim
from mmgen_jax.official import from_torch
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError

REFUSED = {
    "run[0]": "[",
    "[": "[",
    "a]": "]",
    "[!a-z]": "[",
    "exp[v2]/run": "[",
    "a*b": "*",
    "what?": "?",
    "a\\b": "\\",
    "\\": "\\",
    "a\nb": "\n",
    "a\tb": "\t",
    "a\rb": "\r",
    "\x1b[31m": "\x1b",
    "\x7f": "\x7f",
    "\x85": "\x85",
    "\u2028": "\u2028",
    "a\x00b": "\x00",
    os.fsdecode(b"a\xffb"): "\udcff",
    os.fsdecode("ü".encode("latin-1")): "\udcfc",
    os.fsdecode("日本".encode("shift_jis")): "\udc93",
}
ALLOWED = [
    " a b ",
    "-a",
    "--workdir=x",
    ".hidden",
    "~",
    "a%20b#c@d:e,f",
    "{a}(b)<c>|d&e;f!g^h`i'j\"k$l=m+n",
    "ünïcödé",
    "日本語\u3000の",
    "עברית",
    "العربية",
    "हिन्दी",
    "🎉👩\u200d🚀",
    "e\u0301",
    "x" * 200,
]


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_before_anything_is_written(name, tiny_config, tmp_path):
    path, character = tmp_path / name, REFUSED[name]
    shown = repr(str(path))[:-1]  # the path itself, or of what is to be made in it
    if "\0" not in name:
        path.mkdir(parents=True)
    calls = {
        "workdir": [
            lambda: train.train(tiny_config, path),
            lambda: verify.verify(path),
            lambda: restore.restore_ema(path),
        ],
        "data directory": [lambda: builder.build(str(path), builder.Recipe(16, 2, 2))],
        "latents folder": [lambda: dataset.read_info(path)],
        "--out": [lambda: encode.encode(tiny_config, path)],
        "OUT": [lambda: from_torch.convert("none.pt", path, lambda _: pytest.fail("read"))],
    }
    if "\0" not in name:
        calls["data directory"].append(lambda: tiles.find_dataset(path))
    for what, functions in calls.items():
        for call in functions:
            with pytest.raises(UsageError) as caught:
                call()
            message = str(caught.value)
            assert message.startswith(f"{what} is {shown}")
            allowed = (
                "a path on this machine" if "\0" in name else "any text without [ ] * ? \\ and control characters, "
            )
            assert f", which has {character!r}; allowed: {allowed}" in message
            assert message.isprintable()
    assert "\0" in name or not any(path.iterdir())


def test_all_other_names_work_from_end_to_end(tiny_config, tmp_path, tiles_dir, capsys):
    root = tmp_path.joinpath(*ALLOWED)
    shutil.copytree(tiles_dir, root / "data")
    tiny_config.data.dir = str(root / "data")
    tiny_config.train.update({"steps": 1, "save_every": 1})
    train.train(tiny_config, root / "run")
    tiny_config.train.steps = 2
    train.train(tiny_config, root / "run")
    verify.verify(root / "run")
    out = capsys.readouterr().out
    assert "resuming from step 1 in " in out and out.count(": sound, ") == 2
    export.export(root / "run", root / "export")
    made = [MMGen.load(folder).generate(class_id=0, n=1, steps=1, seed=1) for folder in (root / "run", root / "export")]
    np.testing.assert_array_equal(made[0]["rgb"], made[1]["rgb"])
    made[0].save(root / "out")
    assert any((root / "out").glob("*.png"))


@pytest.mark.parametrize("name", ALLOWED)
def test_other_names_hold_checkpoints(name, tmp_path):
    with Saver(tmp_path / name, 1, 0, 0) as saver:
        saver.save(1, {"ema": {"w": jnp.arange(3.0)}}, {"samples": 1})
        saver.finish()
    np.testing.assert_array_equal(restore.restore_ema(tmp_path / name)[0]["w"], [0, 1, 2])
    verify.verify(tmp_path / name)


def test_a_link_is_a_way_out(tiny_config, tmp_path, tiles_dir):
    (tmp_path / "run[0]").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "run[0]")
    (tmp_path / "data[0]").symlink_to(tiles_dir)
    (tmp_path / "data").symlink_to(tmp_path / "data[0]")
    tiny_config.data.dir = str(tmp_path / "data")
    tiny_config.train.update({"steps": 1, "save_every": 1})
    train.train(tiny_config, tmp_path / "run")
    verify.verify(tmp_path / "run")
    assert (tmp_path / "run[0]" / "checkpoints" / "1").is_dir()


def test_what_is_relative_to_a_folder_with_brackets_is_refused(tmp_path, monkeypatch):
    (tmp_path / "exp[v2]").mkdir()
    monkeypatch.chdir(tmp_path / "exp[v2]")
    with pytest.raises(UsageError, match=r"^workdir is '/.*/exp\[v2\]/run', which has '\['; allowed: "):
        restore.folder_of("run")
    monkeypatch.setitem(sys.modules, "gcsfs", types.ModuleType("gcsfs"))
    files.check_path("gs://bucket/run", "workdir")


@pytest.mark.parametrize("name", ["clone[0]", "a*", "what?", "a\\b", "日本"])
def test_a_checkout_with_any_name_has_its_models(name, tmp_path, monkeypatch):
    shutil.copytree(model_folders.ASSETS, tmp_path / name)
    monkeypatch.setattr(model_folders, "ASSETS", files.absolute(tmp_path / name))
    assert model_folders.bundled() == ("shapes-tiny",)
    assert MMGen.load("shapes-tiny").generate(class_id=0, n=1, steps=1)["rgb"].shape[0] == 1


@pytest.mark.parametrize("name", ["photos [old]", "a*", "what?", "a\\b", "[!a]", "日本"])
def test_images_and_sheets_in_folders_with_any_name(name, tmp_path, monkeypatch):
    root = tmp_path / name
    for path in (root / "ai_001" / "cam_00" / "rgb" / "frame.0000.rgb.png", tmp_path / "b" / "x.png"):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert list(groups.find(str(root))) == ["ai_001/cam_00/rgb/frame.0000.rgb"]
    assert list(hypersim.frames(root, "ai_001", disk.Once())["rgb"]) == ["ai_001/cam_00/frame.0000.rgb"]
    (root / "model").mkdir()
    (root / "model" / demo.STORE).write_bytes(b"")
    restored = []
    monkeypatch.setattr(demo.gallery, "restore", lambda path: restored.append(Path(path)) or [])
    demo.assemble(root)
    assert restored == [root / "model" / demo.STORE]
