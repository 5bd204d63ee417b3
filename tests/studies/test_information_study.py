"""The study of information on a tiny model."""

import subprocess
import sys

import numpy as np
import pytest

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.sampling.information import Information
from mmgen_jax.studies import information


@pytest.mark.slow
def test_table_and_picture(model_config, model_dir):
    model_config.evaluate.update({"n": 2, "batch": 4})
    model = MMGen.load(str(model_dir))
    values, found = information.study(settings.parse(model_config), model, draws=2)
    assert len(found) == 12 and list(found["rgb", "depth"].maps) == ["depth"]
    shown = information.picture(values, found, model)
    assert shown.dtype == np.uint8 and shown.shape[0] > 2 * 16


def test_table_is_in_bits():
    told = Information({"depth": np.full((4, 2, 2), np.log(2) / 4)}, np.zeros(4))
    text = information.table({("rgb", "depth"): told, ("depth", "rgb"): told})
    assert text.splitlines()[2:] == ["| rgb | - | 1 ± 0 |", "| depth | 1 ± 0 | - |"]


def test_a_place_for_the_picture_is_looked_at_first():
    words = [sys.executable, "-m", "mmgen_jax.studies.information", "--config=configs/shapes_tiny.py"]
    done = subprocess.run([*words, "--workdir=nowhere", "--out=configs"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.strip() == "error: --out configs is a folder; allowed: a file"
