"""Tests the study of uncertainty against errors."""

import numpy as np
import pytest
import tiny_model

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.studies import calibration
from mmgen_jax.system.errors import UsageError


def test_factors_are_fitted_on_other_scenes_and_stored(model_config, tmp_path):
    folder = tiny_model.save(tmp_path / "model")
    model_config.evaluate.update({"n": 4, "batch": 3, "steps": 1, "draws": 3, "temperature": 1.0})
    chosen = settings.parse(model_config)
    found = calibration.study(chosen, str(folder))
    assert list(found) == ["depth", "normal", "mask"]
    assert all(len(error) == 2 * 16 * 16 and error.shape == u.shape for both in found.values() for error, u in both)
    rows = {m: calibration.row(m, *halves) for m, halves in found.items()}
    assert all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert abs(rows["depth"]["after"] - 0.9) < abs(rows["depth"]["before"] - 0.9)
    assert calibration.plot(found).dtype == np.uint8
    calibration.store(chosen, str(folder), {m: row["factor"] for m, row in rows.items()})
    kept = MMGen.load(folder).architecture
    assert kept.calibration == {m: row["factor"] for m, row in rows.items()} and kept.facts.depth_range is not None


def test_one_draw_and_draws_without_noise_are_refused(model_config, model_dir):
    model_config.evaluate.draws = 1
    with pytest.raises(UsageError, match=r"evaluate.draws is 1; a calibration needs at least 2"):
        calibration.study(settings.parse(model_config), str(model_dir))
    model_config.evaluate.update({"draws": 4, "temperature": 0.0})
    with pytest.raises(UsageError, match=r"evaluate.draws is 4, which needs evaluate.temperature above 0"):
        settings.parse(model_config)
