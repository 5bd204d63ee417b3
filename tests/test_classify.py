"""Tests the classify command on a tiny model."""

import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import classify
from mmgen_jax.system.errors import UsageError


@pytest.fixture
def config(model_config):
    model_config.classify.update({"n": 6, "rounds": (2, 2), "calibrate": 3, "given": "rgb+mask"})
    return model_config


def test_held_out_scenes(config, model_dir, tmp_path, capsys):
    out = tmp_path / "sub" / "classes.tsv"
    found = classify.run(config, str(model_dir), str(out))
    printed = capsys.readouterr().out
    assert "on 3 scenes" in printed and "which 3 other scenes chose" in printed and "evaluations of the net" in printed
    lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert lines[0] == ["sample", "class", "best", "evaluations", *found.class_names] and len(lines) == 7
    np.testing.assert_allclose([[float(p) for p in line[4:]] for line in lines[1:]], found.probabilities, atol=1e-4)
    assert [int(line[3]) for line in lines[1:]] == found.evaluations.tolist()


def test_files(config, model_dir, tmp_path, capsys):
    Image.fromarray(tiny_model.pixels(1)["rgb"][0]).save(tmp_path / "a.png")
    config.sample.given.rgb, config.data.dir = str(tmp_path / "a.png"), "nowhere"
    found = classify.run(config, str(model_dir))
    assert found.probabilities.shape == (1, 8)
    assert "accuracy" not in capsys.readouterr().out


def test_bad_input(config, model_dir):
    config.classify.given = "rgb+smell"
    with pytest.raises(
        UsageError,
        match=r"config key classify.given is 'rgb.smell'; allowed: some of rgb, depth, normal, mask joined by",
    ):
        classify.run(config, str(model_dir))
    config.classify.update({"given": "rgb", "calibrate": 6})
    with pytest.raises(UsageError, match="classify.calibrate is 6; it must be below the 6 scenes"):
        classify.run(config, str(model_dir))
