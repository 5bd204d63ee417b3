"""Tests measuring in turns, ratios, the protocol of workers, and the benchmark command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmgen_jax import settings
from mmgen_jax.benchmark import measure
from mmgen_jax.benchmark.__main__ import lines, measured
from mmgen_jax.benchmark.worker import Local, Remote
from mmgen_jax.system.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_turns_alternate_and_the_first_calls_are_not_timed():
    order = []

    def run(name, seconds):
        def timed(calls):
            order.append((name, calls))
            return calls * seconds

        return timed

    found = measure.interleaved({"a": run("a", 0.5), "b": run("b", 2.0)}, repeats=3, seconds=2.0)
    assert found == {"a": [0.5] * 3, "b": [2.0] * 3}
    warm = [("a", 1)] * 3 + [("b", 1)] * 3
    assert order == warm + [("a", 4), ("b", 1), ("b", 1), ("a", 4), ("a", 4), ("b", 1)]


def test_what_was_read_ahead_does_not_count_as_speed():
    """The first calls after a pause take no time, as their batches are there already."""
    ahead = 4

    def run(calls):
        return 0.1 * max(0, calls - ahead) + 1e-7 * calls

    calls = measure.calls_for(run, 2.0)
    assert 20 <= calls <= 40 and 1.6 <= run(calls) <= 4
    assert measure.calls_for(lambda calls: 0.0, 2.0) == measure.MOST


def test_ratios_are_of_the_same_round():
    assert measure.ratios([2, 4, 9], [1, 4, 3]) == {"median": 2, "min": 1, "max": 3}


class Fake:
    """A contestant whose calls take a known time."""

    def __init__(self, seconds, samples=8):
        self._seconds, self._samples = seconds, samples

    def run(self, case, calls):
        return self._seconds * calls

    def describe(self, case):
        return {"samples": self._samples, "flops": 4e12, "peak": 1e14}

    def close(self):
        pass


def test_rates_follow_from_times_and_flops():
    found = measured("train", {"first": Fake(0.5), "second": Fake(0.25)}, repeats=3, seconds=1.0)
    first, second = found.values()
    assert (first["samples_per_second"], first["model_tflops"], first["mfu"]) == (16, 8, 0.08)
    assert second["speedup"]["median"] == 2
    text = lines("train", found)
    assert len(text) == 3 and "8.0% of peak" in text[0] and "2.000 times as fast" in text[2]


def test_configs_of_different_batches_are_compared_by_samples():
    found = measured("train", {"first": Fake(1.0), "second": Fake(2.0, samples=32)}, repeats=1, seconds=1.0)
    assert found["second"]["speedup"]["median"] == 2


@pytest.fixture
def quick(tiny_config):
    tiny_config.sample.update({"steps": 2, "batch": 8, "solver": "euler"})
    return tiny_config


def test_every_case_runs(quick):
    local = Local(settings.parse(quick))
    for case in ("train", "sample", "decode", "data"):
        assert local.run(case, 2) > 0
        facts = local.describe(case)
        assert facts["samples"] in (8, 16) and (facts["flops"] > 0) == (case != "data")


def test_data_that_are_missing_are_named(quick):
    quick.data.dir = "nowhere"
    with pytest.raises(UsageError, match="data directory 'nowhere' does not exist"):
        Local(settings.parse(quick)).run("data", 1)


@pytest.fixture
def config_file(tmp_path):
    """A config whose cases take almost no time."""
    path = tmp_path / "quick.py"
    path.write_text(
        "from configs import shapes_tiny\n"
        "def get_config():\n"
        "    c = shapes_tiny.get_config()\n"
        "    c.data.dir, c.data.image_size = 'nowhere', 16\n"
        "    c.autoencoder.components = (6, 4, 6, 6)\n"
        "    c.model.depth, c.model.width, c.model.heads, c.train.batch = 1, 16, 2, 8\n"
        "    return c\n"
    )
    return path


def test_another_checkout_answers_through_its_pipe(config_file):
    remote = Remote(str(ROOT), [f"--config={config_file}"])
    try:
        assert remote.run("train", 2) > 0
        assert remote.describe("train")["samples"] == 8
        with pytest.raises(UsageError, match="data directory 'nowhere' does not exist"):
            remote.run("data", 1)
        assert remote.run("train", 1) > 0
    finally:
        remote.close()


def test_a_worker_that_ends_is_named(tmp_path):
    remote = Remote(str(ROOT), ["--config=missing.py"])
    with pytest.raises(UsageError, match="ended with code 2"):
        remote.run("train", 1)
    with pytest.raises(UsageError, match="--checkout is .*; it must be a checkout that has"):
        Remote(str(tmp_path), [])


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "mmgen_jax.benchmark", *arguments],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_two_configs_take_turns_and_a_report_is_written(config_file, tmp_path):
    report = tmp_path / "report.json"
    options = ["--what=train", "--repeats=3", "--seconds=0.05", f"--json={report}"]
    done = command(f"--config={config_file}", f"--compare={config_file}", "--compare.train.batch=16", *options)
    assert done.returncode == 0, done.stderr
    cases = json.loads(report.read_text())["cases"]["train"]
    assert (cases["first"]["samples"], cases["second"]["samples"]) == (8, 16)
    assert cases["second"]["flops"] == 2 * cases["first"]["flops"]
    assert len(cases["second"]["all_seconds"]) == 3 and "times as fast" in done.stdout


def test_another_checkout_gets_the_config_however_it_is_written(config_file, tmp_path):
    options = ["--what=train", "--repeats=1", "--seconds=0", f"--json={tmp_path / 'new' / 'report.json'}"]
    config = ["--config", str(config_file), "--config.train.batch", "4", "--config.sample.guidance_interval=(0.1,0.5)"]
    done = command(*config, *options, f"--checkout={ROOT}")
    assert done.returncode == 0, done.stderr
    cases = json.loads((tmp_path / "new" / "report.json").read_text())["cases"]["train"]
    assert (cases["first"]["samples"], cases["second"]["samples"]) == (4, 4)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--what=dat"], "--what is 'dat'; allowed: train, sample, decode, data"),
        (["--what="], "--what is ''; allowed: train, sample, decode, data"),
        (["--checkout=nowhere"], "--checkout is 'nowhere'; it must be a checkout"),
        (["--compare=missing.py"], "missing.py"),
    ],
)
def test_errors_are_one_line(config_file, options, message):
    done = command(f"--config={config_file}", *options)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and message in done.stderr
