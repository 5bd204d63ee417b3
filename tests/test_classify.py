"""Tests the classify command on a tiny model."""

import shutil

import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import classify, settings
from mmgen_jax.system import sealed
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


def test_scenes_without_a_class_count_in_nothing(config, model_dir, tmp_path, monkeypatch, capsys):
    """Of 6 scenes the second, which calibrates, and the fifth have no class."""
    observed = classify.observed

    def without(chosen, architecture, rows=(1, 4)):
        given, class_id = observed(chosen, architecture)
        class_id[list(rows)] = -1
        return given, class_id

    monkeypatch.setattr(classify, "observed", without)
    found = classify.run(config, str(model_dir), str(tmp_path / "a.tsv"))
    printed = capsys.readouterr().out
    assert "on 2 scenes" in printed and "which 2 other scenes chose" in printed
    assert [row.split("\t")[1] == "-" for row in (tmp_path / "a.tsv").read_text().splitlines()[1:]] == [
        i in (1, 4) for i in range(6)
    ]
    class_id = observed(settings.parse(config), tiny_model.build()[0])[1]
    right = (found.best == class_id)[[3, 5]].mean()
    assert f"accuracy {right:.4f} on 2 scenes" in printed
    monkeypatch.setattr(classify, "observed", lambda *both: without(*both, rows=range(3)))
    with pytest.raises(UsageError, match="config key classify.calibrate is 3; none of these scenes has a class"):
        classify.run(config, str(model_dir))
    config.classify.calibrate = 0
    monkeypatch.setattr(classify, "observed", lambda *both: without(*both, rows=range(6)))
    classify.run(config, str(model_dir))
    assert "no scene that is scored has a class" in capsys.readouterr().out


def test_classes_in_another_order_are_refused(config, model_dir, tiles_dir, tmp_path):
    """The numbers of the scenes' classes mean others to the model."""
    shutil.copytree(tiles_dir, tmp_path / "data")
    (names,) = (tmp_path / "data").rglob("class_id.labels.txt")
    names.write_text("".join(reversed(names.read_text().splitlines(keepends=True))))
    (names.parent / sealed.FILE).unlink()
    config.data.dir = str(tmp_path / "data")
    with pytest.raises(UsageError, match="data.dir .* has the classes .*; the model .* has others"):
        classify.run(config, str(model_dir))


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
