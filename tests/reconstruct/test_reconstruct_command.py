"""Tests the command on a tiny model and on folders of samples."""

import numpy as np
import pytest
import tiny_model
import trimesh
from etils import epath
from PIL import Image

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.reconstruct import __main__ as command
from mmgen_jax.reconstruct import sample_folder
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.system.errors import UsageError


@pytest.fixture
def saved(tmp_path):
    """A folder of samples, as `save` writes it."""
    values = {m: x for m, x in tiny_model.values().items() if m != "mask"}
    Outputs(values, ("rgb",), Facts()).save(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_folder_of_samples(saved, tmp_path, capsys):
    found = command.run(tmp_path / "out", samples=str(saved), fov=40.0)
    assert list(found) == ["000", "001", "002"]
    made = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert made == sorted([f"{n}.{kind}" for n in found for kind in ("glb", "gif", "ply")] + ["files.txt"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("000: field of view 40.0 degrees (given), depth 1 to ")
    assert said[0].endswith("triangles") and "guided by normals" in said[0]
    [mesh] = trimesh.load(tmp_path / "out" / "001.glb").geometry.values()
    assert len(mesh.vertices) == 256
    assert not found["000"].view.metric
    command.run(tmp_path / "out", samples=str(saved), formats=["ply"])
    assert not list((tmp_path / "out").glob("*.glb"))


def test_the_range_of_a_model(saved, tmp_path, model_dir, model_config):
    one = command.run(tmp_path / "a", model_config, samples=str(saved), formats=["ply"])["000"]
    assert (one.view.fov_is, one.view.range_is) == ("of the data set", "of the data set")
    other = command.run(tmp_path / "b", workdir="shapes-tiny", samples=str(saved), formats=["ply"])["000"]
    assert other.view.camera.depth_range == (3.5, 11) and other.view.fov_is != "of the data set"


def test_samples_of_a_model(tmp_path, model_dir, model_config):
    model_config.sample.n = 2
    found = command.run(tmp_path / "out", model_config, str(model_dir), formats=["glb"])
    assert list(found) == ["000", "001"] and all(one.view.fov_is == "of the data set" for one in found.values())
    assert (tmp_path / "out" / "samples" / "gallery.html").exists()


def test_a_photo(tmp_path, model_dir, model_config, rng):
    Image.fromarray(rng.integers(0, 256, (20, 16, 3), np.uint8)).save(tmp_path / "photo.png")
    found = command.run(tmp_path / "out", model_config, str(model_dir), photo=str(tmp_path / "photo.png"))
    assert list(found) == ["000"] and found["000"].view.fov_is in ("estimated", "assumed")
    assert model_config.sample.n == 3, "the config of the caller is not changed"


def test_holes_of_a_file(saved, tmp_path):
    depth = tiny_model.values()["depth"][0].astype(np.float32)
    depth[2:5, 3:9] = np.nan
    np.save(saved / "depth_000.npy", depth)
    found = command.run(tmp_path / "out", samples=str(saved), formats=["ply"])
    assert len(found["000"].points) == 256 - 18 and len(found["001"].points) == 256


def test_bad_input_is_one_line_and_writes_nothing(saved, tmp_path, model_dir, model_config):
    before = sorted(tmp_path.rglob("*"))

    def refused(words, **arguments):
        with pytest.raises(UsageError, match=words) as raised:
            command.run(tmp_path / "out", **arguments)
        assert "\n" not in str(raised.value)
        assert sorted(tmp_path.rglob("*")) == before

    refused("neither --samples nor --config is given; allowed")
    refused("neither --samples nor --workdir is given; allowed", config=model_config)
    refused("--samples is .* and --photo 'b.png'; allowed: one of them", samples=str(saved), photo="b.png")
    refused("--samples is .*none, which is not a folder", samples=str(tmp_path / "none"))
    for fov in (0.0, 180.0, -40.0, float("nan")):
        refused("--fov is .*; it must be a number 1 to 170", samples=str(saved), fov=fov)
    refused("--formats is 'obj'; allowed: glb, ply, gif", samples=str(saved), formats=["obj"])
    refused("--formats is ''; allowed: glb, ply, gif", samples=str(saved), formats=[])
    model_config.sample.wanted = "rgb"
    refused("sample.wanted is 'rgb'; a reconstruction needs depth", config=model_config, workdir=str(model_dir))
    for path in saved.glob("depth_*"):
        path.unlink()
    before = sorted(tmp_path.rglob("*"))
    refused("--samples .* has no depth; allowed: a folder with depth_000.png", samples=str(saved))


def test_files_that_do_not_fit(saved):
    saved = epath.Path(saved)
    np.save(saved / "depth_000.npy", np.zeros((8, 8), np.float32))
    with pytest.raises(UsageError, match="normal .* has 16x16 pixels; allowed: 8x8, as its depth"):
        sample_folder.read(saved, "000")
    np.save(saved / "depth_000.npy", np.full((16, 16), np.nan, np.float32))
    with pytest.raises(UsageError, match="depth .* has no pixel with a value"):
        sample_folder.read(saved, "000")
    np.save(saved / "depth_000.npy", np.full((16, 16), 3.0, np.float32))
    with pytest.raises(UsageError, match="values from 3 to 3; allowed: floats in .0, 1., 1 = nearest"):
        sample_folder.read(saved, "000")
