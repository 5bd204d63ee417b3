"""A model, scored on a small benchmark from its files to the report."""

from __future__ import annotations

import json

import benchmark_trees
import numpy as np
import pytest
from scipy import io

from mmgen_jax import settings
from mmgen_jax.data.benchmarks import registry
from mmgen_jax.data.benchmarks.scene import DepthScene
from mmgen_jax.studies import depth_benchmarks
from mmgen_jax.system.errors import UsageError


def test_scores_and_their_protocol_are_printed_and_written(tmp_path, model_dir, model_config, capsys):
    benchmark_trees.ibims(tmp_path / "ibims")
    model_config.evaluate.steps = 1
    out = str(tmp_path / "report.json")
    report = depth_benchmarks.run(
        settings.parse(model_config), str(model_dir), "ibims", str(tmp_path / "ibims"), out=out
    )
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert report["images"] == 2
    names = {"absrel", "rmse", "log10", "silog", "delta1", "delta2", "delta3"}
    for kind, values in report["scores"].items():
        assert names == set(values) and np.isfinite(list(values.values())).all(), kind
    told = capsys.readouterr().out
    assert "without invalid and transparent pixels" in told and "2 of 2 images" in told and "fit in disparity:" in told


def test_a_scene_is_scored_by_hand():
    """A prediction that is right up to scale and shift of inverse depth, beside holes and depth out of range."""
    depth = np.array([[1.0, 2.0, 5.0, 60.0]], np.float32)
    scene = DepthScene(np.zeros((1, 4, 3), np.uint8), depth, np.array([[True, True, True, True]]))
    found = depth_benchmarks.scores(0.5 / depth, scene, (1e-3, 50.0), None)["disparity"]
    assert list(depth_benchmarks.scores(0.5 / depth, scene, (1e-3, 50.0), (1.0, 10.0))) == ["disparity", "depth"]
    assert found["absrel"].value == pytest.approx(0, abs=1e-6) and found["delta1"].value == 1
    # Upside down, the best is a constant: the mean inverse depth of the three that count, 1.7 / 3.
    found = depth_benchmarks.scores(-0.5 / depth, scene, (1e-3, 50.0), None)["disparity"]
    constant = 3 / 1.7
    assert found["absrel"].value == pytest.approx(np.mean(np.abs(constant - depth[0, :3]) / depth[0, :3]), rel=1e-6)


def test_a_benchmark_without_valid_pixels_is_told(tmp_path, model_dir, model_config):
    [data] = benchmark_trees.ibims(tmp_path / "ibims", count=1)
    io.savemat(tmp_path / "ibims" / "room_0.mat", {"data": data | {"depth": data["depth"] * 0}})
    assert not registry.opened("ibims", str(tmp_path / "ibims")).load(0).valid.any()
    model_config.evaluate.steps = 1
    with pytest.raises(UsageError, match="no image has a valid pixel between 0.001 and 50 m"):
        depth_benchmarks.run(
            settings.parse(model_config), str(model_dir), "ibims", str(tmp_path / "ibims"), out=str(tmp_path / "r.json")
        )
    assert not (tmp_path / "r.json").exists()
