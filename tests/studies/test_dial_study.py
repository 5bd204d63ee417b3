"""Tests the study of dials."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.studies import dial


@pytest.mark.slow
def test_a_table_and_a_sheet_for_each_dial(model_config, model_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dial, "TIMES", (0.005, 1.0))
    monkeypatch.setattr(dial, "STRENGTHS", (0.0, 2.0))
    model_config.evaluate.n, model_config.sample.steps, model_config.sample.solver = 3, 1, "euler"
    found = dial.run(settings.parse(model_config), str(model_dir), str(tmp_path))
    assert {name: list(errors) for name, errors in found.items()} == {"given_times": [0.005, 1], "strength": [0, 2]}
    assert all(np.isfinite(list(errors.values())).all() for errors in found.values())
    said = capsys.readouterr().out
    assert "| `strength.depth` | depth AbsRel |" in said and said.count("throughout") == 2
    for name in found:
        assert Image.open(tmp_path / f"{name}.png").width > 300


def test_whether_a_dial_only_turns_one_way_is_said():
    assert dial.verdict([0.3, 0.2, 0.2, 0.1]) == "falls throughout"
    assert dial.verdict([0.1, 0.2, 0.3]) == "rises throughout"
    assert dial.verdict([0.1, 0.3, 0.25, 0.4]) == "rises, but not throughout: 0.0500 the other way at most"
