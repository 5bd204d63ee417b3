"""Tests the study of recipes: where curves cross, what becomes of seeds, that runs go on, and bad requests."""

import math

import pytest
import tiny_model

from mmgen_jax import evaluate, settings, train
from mmgen_jax.checkpoints import restore
from mmgen_jax.studies import recipes
from mmgen_jax.system.errors import UsageError

COUNTS = (100, 200, 400, 800)


@pytest.mark.parametrize(
    ("wanted", "values", "sign", "expected"),
    [
        (0.5, (0.9, 0.7, 0.3, 0.2), -1, 200 * 2**0.5),  # half of the way from 200 to 400, in octaves
        (0.7, (0.9, 0.7, 0.3, 0.2), -1, 200),
        (0.1, (0.9, 0.7, 0.3, 0.2), -1, math.inf),
        (0.95, (0.9, 0.7, 0.3, 0.2), -1, 100),
        (0.25, (0.0, 0.1, 0.4, 0.5), 1, 200 * 2**0.5),
        (0.6, (0.0, 0.1, 0.4, 0.5), 1, math.inf),
    ],
)
def test_a_curve_is_as_good_where_it_crosses(wanted, values, sign, expected):
    assert recipes.samples_until(wanted, COUNTS, values, sign) == pytest.approx(expected)


def test_a_variant_that_learns_twice_as_fast_has_twice_the_speed():
    def one(*values):
        return [{"depth/absrel": v, "normal/mean": 10 * v, "mask/miou": 1 - v} for v in values]

    curves = {"config": [one(0.8, 0.6, 0.4, 0.2)] * 2, "modern": [one(0.6, 0.4, 0.2, 0.1), one(0.5, 0.3, 0.2, 0.1)]}
    found = recipes.compared(curves, COUNTS)
    for metric in recipes.METRICS:
        assert found["config"][metric]["speed"] == pytest.approx(1)
        assert found["modern"][metric]["speed"] == pytest.approx(2)
        assert found["config"][metric]["deviation"] == pytest.approx(0)
    assert found["modern"]["depth/absrel"]["mean"] == pytest.approx(0.1)
    text = recipes.table(found)
    assert "| modern | 0.1000 ± 0.0000 | 2.00 (2.00 to 2.00) |" in text


def test_a_run_that_is_never_as_good_has_no_speed():
    curves = {"config": [[{m: 0.5 for m in recipes.METRICS}] * 4] * 2}
    curves["worse"] = [[{m: 0.5 - 0.1 * sign for m, sign in recipes.METRICS.items()}] * 4] * 2
    assert {row["speed"] for row in recipes.compared(curves, COUNTS)["worse"].values()} == {0}


@pytest.fixture(scope="module")
def chosen(tiles_dir):
    config = tiny_model.config()
    config.data.dir = str(tiles_dir)
    config.train.batch, config.train.steps, config.evaluate.n, config.evaluate.batch = 8, 4, 8, 8
    config.train.log_every, config.optim.warmup_steps = 1, 2
    return settings.parse(config)


def test_every_variant_is_trained_once_and_scored_at_every_point(chosen, tmp_path, capsys, monkeypatch):
    """With stand-ins for training and scores, which other tests try: here it counts what they are asked for."""
    trained = []

    def train_run(chosen, workdir):
        (workdir / restore.FOLDER / str(chosen.train.steps)).mkdir(parents=True)
        trained.append((workdir.name, chosen.train.steps, chosen.seed, chosen.model.recipe, chosen.objective.time))

    def score(chosen, workdir, out):
        assert out.name == f"metrics_{chosen.sample.checkpoint}.json" and chosen.evaluate.samples == 0
        better = chosen.sample.checkpoint * (2 if chosen.model.recipe == "modern" else 1)
        return {"understanding": {"model": {m: sign * better for m, sign in recipes.METRICS.items()}}}

    monkeypatch.setattr(train, "run", train_run)
    monkeypatch.setattr(evaluate, "score", score)
    report = recipes.run(chosen, tmp_path, list(recipes.VARIANTS), 2, 2)
    assert len(trained) == 2 * 2 * (1 + len(recipes.VARIANTS))  # points, seeds, config and variants
    assert trained[:4] == [
        ("config_0", 2, 0, "published", "uniform"),
        ("config_0", 4, 0, "published", "uniform"),
        ("modern_0", 2, 0, "modern", "uniform"),
        ("modern_0", 4, 0, "modern", "uniform"),
    ]
    assert ("logit-normal_1", 4, 1, "published", "logit_normal") in trained
    assert report["samples"] == [16, 32] and (tmp_path / recipes.FILE).is_file()
    assert report["compared"]["modern"]["depth/absrel"]["speed"] == 2
    assert "| plain-output |" in capsys.readouterr().out
    count = len(trained)
    assert recipes.run(chosen, tmp_path, ["modern"], 2, 2)["scores"]["modern"] == report["scores"]["modern"]
    assert len(trained) == count  # all was there


def test_bad_requests_are_one_line(chosen, tmp_path):
    with pytest.raises(UsageError, match="--variants has 'older'; allowed: modern, logit-normal"):
        recipes.run(chosen, tmp_path, ["older"], 2, 2)
    with pytest.raises(UsageError, match="--steps is 4; it must be at least --points, 5"):
        recipes.run(chosen, tmp_path, ["modern"], 2, 5)
    with pytest.raises(UsageError, match="--steps is 4, so the first point is step 1; warmup takes 2 steps"):
        recipes.run(chosen, tmp_path, ["modern"], 2, 3)
    assert not list(tmp_path.iterdir())
