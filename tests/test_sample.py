"""Tests the sample command."""

import subprocess
import sys

import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import sample
from mmgen_jax.system.errors import UsageError


def test_category_files(model_config, model_dir):
    model_config.sample.class_id = "torus"
    outputs, target = sample.run(model_config, str(model_dir))
    assert target == model_dir / "samples" / "category"
    names = {p.name for p in target.iterdir()}
    assert {"rgb_002.png", "depth_000.png", "normal_001.npy", "mask_ids_002.png"} <= names
    assert {"sheet.png", "grid.png", "gallery.html"} <= names
    assert "class torus" in outputs.caption


def test_conditions_come_from_the_test_split(model_config, model_dir, tmp_path):
    model_config.sample.task, model_config.sample.index = "rgb+mask", 5
    outputs, target = sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    assert target == tmp_path / "out" and outputs.given == ("rgb", "mask")
    np.testing.assert_array_equal(outputs["rgb"], tiny_model.pixels(8)["rgb"][5:])
    assert "depth truth" in (target / "gallery.html").read_text()


def test_conditions_come_from_files(model_config, model_dir, tmp_path):
    pixels = tiny_model.pixels(1)["depth"][0, ..., 0]
    Image.fromarray(pixels).save(tmp_path / "depth.png")
    model_config.sample.task, model_config.sample.images.depth = "depth", str(tmp_path / "depth.png")
    model_config.data.dir = "nowhere"
    outputs, target = sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    np.testing.assert_allclose(outputs["depth"], np.stack([pixels / 65535] * 3), atol=1e-6)
    np.testing.assert_array_equal(np.array(Image.open(target / "depth_001.png")), pixels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample.task": "sound"}, r"sample.task is 'sound'; allowed: category, or some of rgb, depth, normal, mask"),
        ({"sample.task": "rgb+depth+normal+mask"}, "one must be left"),
        ({"sample.class_id": "unicorn"}, "class is 'unicorn'"),
        ({"sample.task": "rgb", "sample.index": 23}, r"needs sample.images.rgb or a data set: index 24 of split"),
        ({"sample.task": "rgb", "data.dir": "nowhere"}, "data directory 'nowhere' does not exist"),
        ({"sample.images.rgb": "a.png"}, r"sample.images.rgb is 'a.png'; allowed: empty"),
        ({"sample.task": "rgb+mask", "sample.images.rgb": "a.png"}, "sample.images.mask is empty"),
        ({"sample.task": "rgb", "sample.images.rgb": "a.png"}, r"given rgb \(a.png\) does not exist"),
        ({"model.depth": 3}, "config key model.depth is 3, the model in .* has 2"),
        ({"data.image_size": 32}, "config key image_size is 32|config key data.image_size is 32"),
        ({"data.modalities": ("rgb", "depth")}, "has 2|data.modalities is"),
        ({"autoencoder.components": (6, 4, 6, 7)}, r"autoencoder.components is \(6, 4, 6, 7\)"),
        ({"sample.checkpoint": 7}, "no checkpoint"),
        ({"sample.solver": "magic"}, "sample.solver is 'magic'"),
    ],
)
def test_bad_configs_are_named(model_config, model_dir, changes, message):
    for key, value in changes.items():
        model_config.update_from_flattened_dict({key: value})
    with pytest.raises(UsageError, match=message) as caught:
        sample.run(model_config, str(model_dir))
    assert "\n" not in str(caught.value)


def test_places_that_cannot_be_written_are_named_before_sampling(model_config, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(sample.MMGen, "load", None)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"--out .*/file is a file; allowed: a folder"):
        sample.run(model_config, str(model_dir), str(tmp_path / "file"))
    with pytest.raises(UsageError, match=r"--out .*/file/out cannot be written: .*/file is a file"):
        sample.run(model_config, str(model_dir), str(tmp_path / "file" / "out"))


def command(*args):
    return subprocess.run(
        [sys.executable, "-m", "mmgen_jax.sample", "--config=configs/shapes_tiny.py", *args],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_ends_with_one_line_on_bad_input(tmp_path):
    done = command(f"--workdir={tmp_path / 'none'}")
    assert done.returncode == 2 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: no model at")


def test_command_writes_files(model_dir, tmp_path):
    sizes = [
        "--config.data.image_size=16",
        "--config.autoencoder.components=(6,4,6,6)",
        "--config.model.depth=2",
        "--config.model.width=16",
        "--config.model.heads=2",
    ]
    speed = ["--config.sample.n=1", "--config.sample.steps=1", "--config.sample.solver=euler"]
    done = command(f"--workdir={model_dir}", f"--out={tmp_path / 'out'}", *sizes, *speed)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "gallery.html").exists() and "gallery.html" in done.stdout
