"""Tests the study of two models that have no sample in common."""

import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.studies import two_models
from mmgen_jax.system.errors import UsageError


def test_a_table_and_a_sheet(model_config, model_dir, tmp_path):
    model_config.evaluate.n, model_config.sample.steps, model_config.evaluate.steps = 2, 1, 1
    pair = [str(tiny_model.save(tmp_path / m, tiny_model.part(("rgb", m), i))) for i, m in enumerate(("depth", "mask"))]
    chosen = settings.parse(model_config)
    rows = two_models.run(chosen, str(model_dir), tuple(pair), tmp_path / "sheet.png")
    assert len(rows) == 8 and all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert Image.open(tmp_path / "sheet.png").width > 300
    with pytest.raises(UsageError, match="--second .* has rgb, depth; it must be a model of rgb, mask"):
        two_models.run(chosen, str(model_dir), (pair[0], pair[0]), tmp_path / "sheet.png")
