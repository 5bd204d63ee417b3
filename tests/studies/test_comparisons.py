"""Tests the studies that compare types of numbers, and this package with the official code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmgen_jax.models import flops
from mmgen_jax.studies import dtypes, official
from mmgen_jax.training import standins

ROOT = Path(__file__).parents[2]


def test_differences_are_told_in_units_of_the_spread_over_seeds():
    def runs(*values):
        return [dict.fromkeys(dtypes.METRICS, value) for value in values]

    found = dtypes.compared({"float32": runs(1.0, 2.0, 3.0), "bfloat16": runs(2.0, 3.0, 4.0)})
    row = found["mask/miou"]
    assert (row["float32"], row["bfloat16"], row["difference"]) == (2, 3, 1)
    assert row["error"] == pytest.approx((2 / 3) ** 0.5)  # both variances are 1, three runs each


def test_the_compared_model_is_the_published_one_at_another_size():
    config = official.our_config("S/2", batch=8, steps=4, unroll=3)
    assert (config.model.depth, config.model.width, config.model.unroll) == (12, 384, 3)
    a = standins.architecture(config)
    assert a.latent_shapes(8)["mask"] == (8, 32, 32, 4) and a.model.feature_width == 768
    # DiT's paper gives S/2 as 6.06 G multiply-adds; the projector comes on top.
    projector = 256 * (384 * 2048 + 2048 * 2048 + 2048 * 768)
    assert flops.forward_flops(a, 8) / 8 == pytest.approx(2 * (6.06e9 + projector), rel=0.01)


@pytest.mark.parametrize(
    "module, options, message",
    [
        ("mmgen_jax.studies.official", ["--official=nowhere"], "--official is 'nowhere'; it must be a clone of MMGen"),
        ("mmgen_jax.studies.dtypes", ["--config=configs/shapes_quick.py", "--seeds=1"], "--seeds is 1; it must be at"),
    ],
)
def test_errors_are_one_line(module, options, message):
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and message in done.stderr
