"""The study of editing on a tiny model."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.studies import editing
from mmgen_jax.system.errors import UsageError


@pytest.mark.slow
def test_table_and_sheet(model_config, model_dir, tmp_path):
    model_config.evaluate.n, model_config.sample.steps = 3, 1
    rows = editing.run(settings.parse(model_config), str(model_dir), tmp_path / "sheet.png")
    assert len(rows) == 2 + len(editing.TIMES) + 2 and editing.AGAIN in rows
    assert all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert Image.open(tmp_path / "sheet.png").width > 300


def test_table_is_markdown():
    lines = editing.table({"from t = 1": dict.fromkeys(editing.HEADS, 0.5)}).splitlines()
    assert lines[2] == "| from t = 1 | 0.5000 | 0.5000 | 0.5000 |"
    assert [line.count("|") for line in lines] == [5, 5, 5]


def test_bad_requests(model_config, model_dir, monkeypatch):
    monkeypatch.setattr(editing, "VIA", ("depth", "albedo"))
    with pytest.raises(UsageError, match="has no albedo; this study needs it"):
        editing.Study(settings.parse(model_config), str(model_dir))
