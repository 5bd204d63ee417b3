"""The study of guidance."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.metrics import classifier
from mmgen_jax.studies import guidance
from mmgen_jax.system.errors import UsageError


def test_contrast_and_sharpness():
    flat = np.full((2, 4, 4, 3), 7, np.uint8)
    stripes = np.broadcast_to(np.uint8([0, 0, 200, 200])[:, None], (2, 4, 4, 3))  # each column of 4 pixels has one step
    assert guidance.contrast(flat) == 0 and guidance.contrast(stripes.transpose(0, 2, 1, 3)) == 100
    assert guidance.sharpness(flat) == 0
    rows = np.zeros((1, 4, 4, 3), np.uint8)
    rows[:, 2:] = 200
    assert guidance.sharpness(rows) == pytest.approx(200**2 / 3 / 100**2)


@pytest.mark.slow
def test_table_and_sheet(model_config, model_dir, tmp_path):
    model_config.evaluate.n, model_config.sample.steps, model_config.sample.weak = 12, 1, str(model_dir)
    rows = guidance.run(settings.parse(model_config), str(model_dir), tmp_path / "sheet.png")
    assert list(rows) == [*guidance.WAYS, *guidance.AWAY, guidance.WEAK, guidance.REAL]
    assert all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert rows[guidance.REAL]["contrast"] == rows[guidance.REAL]["sharpness"] == 1
    plain = rows["guidance 1"]  # the weak model is the same, from which nothing leads away
    assert all(rows[name] == pytest.approx(plain, abs=0.05) for name in (*guidance.AWAY, guidance.WEAK))
    assert Image.open(tmp_path / "sheet.png").width > 300


def test_scenes_of_which_no_two_are_of_one_class_are_refused(model_config, model_dir, tmp_path):
    model_config.evaluate.n = 1
    with pytest.raises(UsageError, match="the 1 scenes are all of other classes; more of them are needed"):
        guidance.run(settings.parse(model_config), str(model_dir), tmp_path / "sheet.png")


def test_a_model_that_the_classifier_does_not_know_is_refused(model_config, model_dir, monkeypatch, tmp_path):
    monkeypatch.setattr(classifier, "for_classes", lambda names: None)
    with pytest.raises(UsageError, match="has other classes than the bundled classifier, which judges here"):
        guidance.run(settings.parse(model_config), str(model_dir), tmp_path / "sheet.png")
