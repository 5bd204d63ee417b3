"""Tests the study of reconstructions."""

import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax.settings import parse
from mmgen_jax.studies import reconstruction as study
from mmgen_jax.system.errors import UsageError


def test_a_table_and_a_sheet(model_config, model_dir, tmp_path, capsys):
    model_config.evaluate.update({"n": 2, "steps": 1})
    found = study.run(parse(model_config), str(model_dir), tmp_path / "sheet.png")
    assert list(found) == list(study.WAYS) and all(np.isfinite(list(row.values())).all() for row in found.values())
    exact = found["true depth alone"]
    assert exact["chamfer"] < 0.06 and exact["normals"] < 8 and exact["fov"] == 0
    assert exact["chamfer"] == pytest.approx((exact["accuracy"] + exact["completeness"]) / 2)
    assert exact["chamfer"] < found[study.ALONE]["chamfer"]
    said = capsys.readouterr().out
    assert said.count("\n| ") == len(study.WAYS) and "chamfer: better with normals and regions in" in said
    assert Image.open(tmp_path / "sheet.png").width > 4 * 256


def test_a_model_without_normals_is_refused(model_config, tmp_path):
    folder = tiny_model.save(tmp_path / "model", tiny_model.part(("rgb", "depth"), 0))
    with pytest.raises(UsageError, match="has no normal and no mask; this study needs them"):
        study.run(parse(model_config), str(folder), tmp_path / "sheet.png")
