"""Tests what a run reports while it is going on and at its end."""

import json
import time

import numpy as np
import pytest

from mmgen_jax import train
from mmgen_jax.models import overview
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry import profiler, report
from mmgen_jax.telemetry.clock import Clock


def entries(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def run(small_config, tmp_path_factory):
    """A short run with traces asked for on the command line and by a file."""
    config, workdir = small_config(), tmp_path_factory.mktemp("run") / "a"
    config.train.update({"steps": 12, "log_every": 2, "save_every": 6, "sample_every": 12})
    config.sample.update({"steps": 2, "solver": "euler"})
    workdir.mkdir()
    (workdir / profiler.REQUEST).touch()
    train.train(config, workdir, profile=(2, 3))
    return config, workdir


def test_losses_by_time_average_to_the_loss_of_their_modality(small_config, tmp_path):
    config = small_config()
    config.objective.mix = ((1.0, "none", 0.0, "all"),)
    config.train.update({"steps": 1, "log_every": 1})
    train.train(config, tmp_path)
    entry = entries(tmp_path)[0]
    for m in config.data.modalities:
        parts = {k: v for k, v in entry.items() if k.startswith(f"by_time/{m}/")}
        assert 1 < len(parts) <= 4
        assert min(parts.values()) <= entry[f"loss/{m}"] <= max(parts.values())


def test_entries_have_times_norms_memory_and_rates(run):
    _, workdir = run
    for entry in entries(workdir):
        parts = [v for k, v in entry.items() if k.startswith("time/") and k not in ("time/step_ms", "time/host_ms")]
        assert sum(parts) <= entry["time/step_ms"] * 1.001
        assert entry["time/host_ms"] <= entry["time/step_ms"]
        assert entry["param_norm"] > 1 and entry["update_norm"] > 0 and entry["memory/host_gb"] > 0.05
        assert entry["model_tflops"] > 0 and "mfu" not in entry  # nobody knows the peak of this CPU
    assert {"time/data_ms", "time/dispatch_ms", "time/device_ms", "time/metrics_ms"} <= set(entries(workdir)[0])
    assert entries(workdir)[3]["time/checkpoint_ms"] > 0


def test_update_norm_is_that_of_the_parameters_change(small_config, tmp_path):
    config = small_config()
    config.optim.update({"eps": 1e-12, "clip_norm": 1e9})
    config.train.update({"steps": 1, "save_every": 1})
    train.train(config, tmp_path)
    entry = entries(tmp_path)[0]
    # Adam's first update is the learning rate in the direction of each gradient's sign, 0 where that is 0.
    rate = config.optim.learning_rate
    assert 0 < entry["update_norm"] <= rate * np.sqrt(18_100)
    moved = (entry["update_norm"] / rate) ** 2
    assert abs(moved - round(moved)) < 0.05 * moved


def test_traces_are_written_and_a_request_is_used_up(run):
    _, workdir = run
    traces = list((workdir / profiler.FOLDER).rglob("*.xplane.pb"))
    assert traces and not (workdir / profiler.REQUEST).exists()


def test_the_summary_of_a_run_is_an_event(run):
    config, workdir = run
    summary = [json.loads(line) for line in (workdir / "events.jsonl").read_text().splitlines()][-1]
    assert (summary["event"], summary["step"], summary["steps"], summary["samples"]) == ("summary", 12, 12, 12 * 16)
    assert 0.7 < sum(summary["shares"].values()) <= 1.001
    losses = {entry["step"]: entry["loss"] for entry in entries(workdir)}
    found = summary["losses"]["loss"]
    assert found == {"best": min(losses.values()), "best_step": min(losses, key=losses.get), "last": losses[12]}
    rows = [line.split() for line in report.summary_lines(summary)]
    names = ["loss", *config.data.modalities]
    assert [row[0] for row in rows[-len(names) :]] == names
    assert ["loss", f"{losses[12]:.4f}", f"{found['best']:.4f}", str(found["best_step"])] in rows


@pytest.mark.parametrize("text", ["5", "0:3", "4:2", "a:b", "1:2:3", "-1:2"])
def test_bad_profile_flags(text):
    with pytest.raises(UsageError, match="--profile is .*; it must be FIRST:LAST"):
        profiler.parse(text)


def test_steps_to_trace_must_be_steps_of_the_run(tiny_config, tmp_path):
    assert profiler.parse("3:9") == (3, 9) and profiler.parse("") is None
    with pytest.raises(UsageError, match="--profile is 3:9; this run makes steps 1 to 4"):
        train.train(tiny_config, tmp_path / "run", profile=(3, 9))
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_behind_the_steps_to_trace_says_so(tiny_config, tmp_path, capsys):
    """A watcher gives the same command again, which must not fail."""
    tiny_config.train.steps = 2
    train.train(tiny_config, tmp_path, profile=(1, 2))
    tiny_config.train.steps = 4
    capsys.readouterr()
    train.train(tiny_config, tmp_path, profile=(1, 2))
    assert "no trace of steps 1 to 2, which --profile asks for: they were made before" in capsys.readouterr().out
    assert len(list((tmp_path / profiler.FOLDER).rglob("*.xplane.pb"))) == 1


def test_requests_add_to_the_steps_of_the_command_line(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(profiler.jax.profiler, "start_trace", lambda folder: calls.append("start"))
    monkeypatch.setattr(profiler.jax.profiler, "stop_trace", lambda: calls.append("stop"))
    tracing = profiler.Profiler(tmp_path, (20, 21))
    for step in range(1, 31):
        tracing.before(step)
        calls.append(step)
        if tracing.ends(step):
            tracing.close()
        if step == 3:
            (tmp_path / profiler.REQUEST).touch()
        tracing.look(step)
    starts, ends = ([i for i, call in enumerate(calls) if call == name] for name in ("start", "stop"))
    traced = [calls[a + 1 : b] for a, b in zip(starts, ends, strict=True)]
    assert traced == [[4, 5, 6, 7, 8], [20, 21]]


def test_clock_tells_phases_apart():
    clock = Clock()
    with clock("data"):
        time.sleep(0.02)
    first = clock.lap()
    assert first["data"] >= 0.02 and first["whole"] >= first["data"]
    with pytest.raises(ZeroDivisionError), clock("dispatch"):
        raise ZeroDivisionError
    second = clock.lap()
    assert "data" not in second and "dispatch" in second
    with clock("metrics"):  # what goes on during a lap counts in both, each its part
        time.sleep(0.01)
        third = clock.lap()
    assert 0.01 <= third["metrics"] <= third["whole"] and clock.lap()["metrics"] < third["metrics"]
    assert clock.total()["data"] == first["data"] and clock.total()["whole"] >= first["whole"] + second["whole"]


def test_parameters_are_listed_by_layer():
    params = {
        "embed": {"kernel": np.zeros((2, 3), np.float32), "bias": np.zeros(3, np.float32)},
        "blocks": {"qkv": {"kernel": np.zeros((4, 3, 9), np.float16)}},
    }
    lines = [line.split() for line in overview.parameters(params).splitlines()]
    assert ["embed", "2", "x", "3", "9", "float32"] in lines
    assert ["blocks.qkv", "4", "x", "3", "x", "9", "108", "float16"] in lines
    assert lines[-1] == ["all", "117"]
