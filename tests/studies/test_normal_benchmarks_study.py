"""A model, scored on a small benchmark of normals from its files to the report."""

import json

import benchmark_trees
import numpy as np
import pytest

from mmgen_jax import settings
from mmgen_jax.studies import normal_benchmarks
from mmgen_jax.system.errors import UsageError


def run(tmp_path, model_dir, config, **more):
    config.evaluate.steps = 1
    given = {"benchmark": "ibims", "root": str(tmp_path / "in"), "out": str(tmp_path / "report.json")} | more
    return normal_benchmarks.run(settings.parse(config), str(model_dir), **given)


def test_scores_and_their_protocol_are_printed_and_written(tmp_path, model_dir, model_config, capsys):
    benchmark_trees.dsine(tmp_path / "in")
    report = run(tmp_path, model_dir, model_config, images=2)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert report["images"] == 2 and report["of"] == 100 and report["pixels"] == 2 * 47 * 64
    names = {"mean", "median", "rmse", "under_5", "under_7.5", "under_11.25", "under_22.5", "under_30"}
    assert names == set(report["scores"]) and np.isfinite(list(report["scores"].values())).all()
    told = capsys.readouterr().out
    assert "axes of the files: x, y, z are -x,y,z, as the images tell: 0.00% of" in told
    assert "ibims: 2 images; it is published with 100" in told and normal_benchmarks.PROTOCOL in told


@pytest.mark.parametrize("axes", ["-x,y,z", "y,-z,x"])
def test_a_model_is_scored_in_the_axes_of_the_files(tmp_path, model_dir, model_config, monkeypatch, axes):
    """A model that predicts the truth has no error but that of 8 bits."""
    truths = iter(benchmark_trees.dsine(tmp_path / "in", axes))
    monkeypatch.setattr(normal_benchmarks.Opened, "read_whole", lambda self, rgb: {"normal": next(truths)})
    report = run(tmp_path, model_dir, model_config)
    assert report["axes"] == axes and report["scores"]["mean"] < 0.5 and report["scores"]["under_5"] == 1


def test_what_cannot_be_scored_is_told_before_anything_is_predicted(tmp_path, model_dir, model_config):
    made = benchmark_trees.dsine(tmp_path / "in", count=1)
    with pytest.raises(UsageError, match="axes is 'x,x,z'; allowed: x, y and z once each, with a minus or not"):
        run(tmp_path, model_dir, model_config, axes="x,x,z")
    black = np.zeros((*made[0].shape[:2], 3), np.uint8)
    benchmark_trees.picture(tmp_path / "in" / "hall" / "000000_normal.png", black)
    with pytest.raises(UsageError, match="no pixel of the first 1 images has a normal"):
        run(tmp_path, model_dir, model_config)
    assert not (tmp_path / "report.json").exists()
