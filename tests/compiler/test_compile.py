"""Tests python -m mmgen_jax.compile on small configs, and compares the full-size model with stored figures."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from mmgen_jax.compiler.topology import LIBRARY

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="./launch/setup.sh --compiler brings the compiler")
ROOT = pathlib.Path(__file__).parents[2]
SMALL = ("--config=configs/shapes_tiny.py", "--config.model.depth=2", "--config.model.width=32")
SMALL += ("--config.model.heads=2", "--config.train.batch=16")


def command(*arguments):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"JAX_NUM_CPU_DEVICES": "1"}
    call = [sys.executable, "-m", "mmgen_jax.compile", *arguments]
    return subprocess.run(call, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_small_model_is_told_in_words_and_numbers(tmp_path):
    done = command(*SMALL, "--topology=v5e:2x2", f"--json={tmp_path / 'found.json'}")
    assert done.returncode == 0, done.stderr
    assert "train on v5e:2x2, 4 devices, mesh data=4 fsdp=1 tensor=1; nothing was run" in done.stdout
    assert "GiB to spare" in done.stdout
    (found,) = json.loads((tmp_path / "found.json").read_text())
    assert found["fits"] and 0 < found["memory"]["peak"] < found["memory"]["available"]
    assert 0 < found["share_of_peak"] < 1
    # Weights are whole on every device: their gradients are summed, none is gathered.
    kinds = {c["kind"] for c in found["collectives"]}
    assert "all-reduce" in kinds and "all-gather" not in kinds


@pytest.mark.parametrize("what", ["sample", "encode"])
def test_sampling_and_encoding_are_compiled_too(what):
    done = command(*SMALL, "--config.sample.batch=8", "--topology=v5e:2x2", f"--what={what}")
    assert done.returncode == 0, done.stderr
    assert f"{what} on v5e:2x2" in done.stdout


def test_search_recommends_a_mesh():
    done = command(*SMALL, "--topology=v5e:1x1", "--search")
    assert done.returncode == 0, done.stderr
    assert "recommended for v5e:1x1 (1 devices): --config.mesh.data=1 --config.mesh.fsdp=1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--topology=v5e",), "--topology is 'v5e'; allowed: one of v4, v5e, v5p, v6e, tpu7x, a colon and a shape"),
        (("--topology=v5e:2x2", "--what=run"), "--what is 'run'; allowed: train, sample, encode"),
        (
            ("--topology=v5e:2x2", "--config.mesh.fsdp=3"),
            "config section mesh has data=-1, fsdp=3, tensor=1; the product",
        ),
        (
            ("--topology=v5e:2x2", "--config.train.batch=6"),
            "train.batch / train.accumulate is 6; it must be a positive",
        ),
        (
            ("--topology=v5e:2x2", "--json=README.md/x.json"),
            "--json README.md/x.json cannot be written: README.md is a",
        ),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    done = command(*SMALL, *arguments)
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1


def test_too_much_for_the_memory_is_one_line():
    done = command(*SMALL, "--topology=v5e:1x1", "--config.train.batch=1000000")
    assert done.returncode == 3
    assert done.stderr.startswith("error: does not fit into the memory of a device") and done.stderr.count("\n") == 1


# What the gates below hold against. To renew it, when a change is meant: the command of `GATE`, --json=<this file>.
STORED = pathlib.Path(__file__).with_name("xl2_two_blocks.json")
GATE = ("--config=configs/imagenet256_xl2.py", "--topology=v5e:4x4", "--config.model.depth=2")
GATE += ("--config.model.unroll=2", "--config.model.encoder_depth=1")


@pytest.mark.slow
def test_two_blocks_of_the_published_model_cost_what_they_did(tmp_path):
    done = command(*GATE, f"--json={tmp_path / 'found.json'}")
    assert done.returncode == 0, done.stderr
    (found,), (stored,) = (json.loads(p.read_text()) for p in (tmp_path / "found.json", STORED))
    assert found["memory"]["peak"] <= 1.05 * stored["memory"]["peak"]
    assert found["seconds"]["compute"] == pytest.approx(stored["seconds"]["compute"], rel=0.05)

    def moved(report, **what):
        rows = [c for c in report["collectives"] if all(c[key] == value for key, value in what.items())]
        return sum(c["bytes"] for c in rows), sum(c["count"] for c in rows)

    for kind in ("all-gather", "all-reduce"):
        assert moved(found, kind=kind)[0] == pytest.approx(moved(stored, kind=kind)[0], rel=0.05)
    # Sums of blocks' gradients go on behind products, and no product was cut into windows, which takes many permutes.
    waiting = {"kind": "all-reduce", "overlapped": False}
    assert moved(found, **waiting)[0] <= 1.05 * moved(stored, **waiting)[0]
    assert moved(found, kind="collective-permute")[1] <= 20
