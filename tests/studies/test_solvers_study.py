"""Tests the study of error against calls."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.sampling import SOLVERS
from mmgen_jax.show import pictures
from mmgen_jax.studies import solvers


def test_steps_use_at_most_the_calls():
    assert [solvers.steps_within(s, 5) for s in ("euler", "heun", "midpoint", "dpm_solver_2m")] == [5, 3, 2, 5]
    assert solvers.steps_within("midpoint", 1) == 0


@pytest.mark.slow
def test_a_row_for_each_solver_and_number_of_calls_and_a_plot(model_config, model_dir, tmp_path):
    model_config.evaluate.n = 3
    rows = solvers.study(settings.parse(model_config), str(model_dir), [2, 5], reference=3)
    assert {s: [r["calls"] for r in found] for s, found in rows.items()} == {
        "euler": [2, 5],
        "heun": [1, 5],
        "midpoint": [2, 4],
        "dpm_solver_2m": [2, 5],
        "unipc": [2, 5],
        "euler_maruyama": [2, 5],
        "euler, temperature 0": [2, 5],
        "heun, temperature 0": [1, 5],
    }
    assert rows["heun"][1]["distance"] == 0  # three Heun steps are the reference itself
    elsewhere = {s for s, (name, temperature) in solvers.RUNS.items() if SOLVERS[name].stochastic or temperature == 0}
    assert all(np.isnan(r["distance"]) == (s in elsewhere) for s, found in rows.items() for r in found)
    assert solvers.line("euler", rows["euler"][0]).count("|") == 7
    pictures.save_png(tmp_path / "plot.png", solvers.plot(rows))
    assert Image.open(tmp_path / "plot.png").size == (solvers.WIDTH, solvers.HEIGHT)


def test_a_plot_needs_no_more_than_one_number_of_calls():
    picture = solvers.plot({"euler": [{"calls": 4, "distance": 0.1}], "heun": [{"calls": 4, "distance": float("nan")}]})
    assert picture.shape == (solvers.HEIGHT, solvers.WIDTH, 3)


def test_numbers_of_calls_are_named():
    words = [
        sys.executable,
        "-m",
        "mmgen_jax.studies.solvers",
        "--config=configs/shapes_tiny.py",
        "--workdir=shapes-tiny",
    ]
    done = subprocess.run([*words, "--calls=4,0"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --calls is '4,0'; it must be whole numbers from 1 to 10000"
