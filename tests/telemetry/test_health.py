"""Tests how steps that are not finite and losses that jump are found and reported."""

import json

import numpy as np
import pytest

from mmgen_jax import train
from mmgen_jax.system.errors import RunError
from mmgen_jax.telemetry.health import ENOUGH, HISTORY, RENEW, Health, Spikes

NAMES = ("rgb", "depth")


def metrics(loss=1.0, finite=1.0, error=None):
    error = np.ones((2, 4)) if error is None else error
    return {
        "loss": np.float32(loss),
        "grad_norm": np.float32(1.0),
        "finite": np.float32(finite),
        "by_time/error": np.asarray(error, np.float32),
        "by_time/count": np.ones((2, 4), np.float32),
    }


@pytest.fixture
def told():
    return []


@pytest.fixture
def make(told):
    return lambda allowed: Health(NAMES, allowed, 5.0, lambda *event: told.append(event))


def test_as_many_steps_are_skipped_as_allowed_and_each_is_told(make, told):
    health = make(2)
    applied = [health.check(step, metrics(finite=float(step not in (2, 5)))) for step in range(1, 8)]
    assert applied == [True, False, True, True, False, True, True] and health.skipped == 2
    assert [(step, kind, values["count"]) for step, kind, values in told] == [(2, "skipped", 1), (5, "skipped", 2)]
    with pytest.raises(RunError, match="step 9: loss or gradient is not finite .* as those of 2 steps before"):
        health.check(9, metrics(finite=0))


def test_where_a_loss_is_not_finite_is_named(make):
    error = np.ones((2, 4))
    error[1, 3] = np.nan
    with pytest.raises(RunError, match=r"step 4: .* in depth at t 0.75-1.00; its update was not applied$"):
        make(0).check(4, metrics(np.nan, 0, error))


def test_a_spike_is_told_once_by_modality_and_range_of_time(make, told, rng):
    health = make(0)
    for step in range(1, 61):
        error = rng.uniform(0.5, 1.5, (2, 4))
        if step in (50, 51):
            error[1, 2] = 20.0
        health.check(step, metrics(error=error))
    assert [(step, kind, values["name"]) for step, kind, values in told] == [(50, "spike", "by_time/depth/0.50-0.75")]
    assert told[0][2]["value"] == 20 and told[0][2]["median"] == pytest.approx(1, abs=0.3)


def test_a_new_level_becomes_the_median_and_few_values_have_none():
    spikes = Spikes(3.0)
    assert not any(spikes({"loss": value}) for value in [1.0, 50.0] * (ENOUGH // 2 - 1))
    spikes = Spikes(3.0)
    found = [spikes({"loss": 1.0}) for _ in range(HISTORY)] + [spikes({"loss": 9.0}) for _ in range(HISTORY)]
    assert [bool(f) for f in found].count(True) == 1
    assert not spikes({"loss": 20.0}) and RENEW < ENOUGH < HISTORY


def test_values_below_zero_never_spike():
    spikes = Spikes(2.0)
    assert not any(spikes({"alignment": -1.0 / step}) for step in range(1, 90))


def test_a_run_skips_and_says_so(tiny_config, tmp_path, capsys):
    tiny_config.optim.learning_rate = 1e38
    tiny_config.train.update({"steps": 50, "save_every": 50, "max_skipped": 3})
    with pytest.raises(RunError, match=r"as those of 3 steps before"):
        train.train(tiny_config, tmp_path)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds.count("skipped") == 3 and kinds[-1] == "summary" and events[-1]["skipped"] == 4
    out = capsys.readouterr().out
    assert out.count("skipped at step") == 3 and "4 skipped" in out
