"""Scores in training are those that `evaluate` prints afterwards."""

import json

import jax
import numpy as np
import pytest

from mmgen_jax import evaluate, settings, train
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.metrics.in_training import InTraining
from mmgen_jax.system.errors import UsageError


def test_scores_on_the_way_are_those_of_evaluate(tiny_config, tmp_path, capsys):
    tiny_config.train.update({"steps": 3, "evaluate_every": 2, "evaluate_n": 6})
    tiny_config.evaluate.update({"batch": 4, "n": 6, "samples": 0})
    train.train(tiny_config, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("held-out from rgb at step ")]
    assert [line.split()[5] for line in lines] == ["2", "3"]  # every second step, and the last
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    scores = [event for event in events if event["event"] == "scores"]
    assert [event["step"] for event in scores] == [2, 3]
    later = evaluate.run(tiny_config, tmp_path)["understanding"]["model"]
    known = {key: value for key, value in later.items() if not np.isnan(value)}
    assert known.keys() == scores[1].keys() - {"step", "event"} and "depth/absrel" in known
    np.testing.assert_allclose([scores[1][key] for key in known], list(known.values()), rtol=1e-4)
    assert f"(6 scenes): depth/absrel {known['depth/absrel']:.4f}" in lines[1]


def test_predictions_that_are_not_finite_have_no_scores(model_config, model_dir, capsys):
    model_config.train.evaluate_n = 4
    architecture, params = model_folders.load(model_dir)
    scores = InTraining(architecture, settings.parse(model_config))
    assert scores(jax.tree.map(lambda p: np.full_like(p, np.nan), params), 7) == {}
    assert capsys.readouterr().out.startswith("no scores of step 7: ")


def test_scores_need_tiles(tiny_config):
    tiny_config.train.evaluate_every = 10
    tiny_config.data.dir = ""
    with pytest.raises(UsageError, match="train.evaluate_every is 10, which needs data.dir with held-out tiles"):
        settings.parse(tiny_config)
