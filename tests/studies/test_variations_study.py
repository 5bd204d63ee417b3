"""The study of variations on a tiny model."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.studies import variations
from mmgen_jax.system.errors import UsageError


@pytest.mark.slow
def test_table_and_sheet(model_config, model_dir, tmp_path):
    model_config.evaluate.n, model_config.sample.steps, model_config.sample.draws = 12, 1, 2
    rows = variations.run(settings.parse(model_config), str(model_dir), tmp_path / "sheet.png")
    assert list(rows) == [*variations.WAYS, variations.REAL]
    assert rows["depth"]["depth"] == 0 and rows["depth"]["regions"] > 0  # what is given is the same
    assert rows["depth, normals, regions"]["regions"] == 0 and rows["depth, normals, regions"]["rgb"] > 0
    assert all(np.isfinite(list(row.values())).all() for row in rows.values())
    assert Image.open(tmp_path / "sheet.png").width > 300


def test_table_is_markdown():
    row = dict.fromkeys(variations.HEADS, 0.5)
    lines = variations.table({"nothing": row}).splitlines()
    assert [line.count("|") for line in lines] == [8, 8, 8]
    assert lines[2] == "| nothing | 0.5000 | 0.5000 | 0.5000 | 0.5000 | 0.5000 | 0.5000 |"


def test_bad_requests(model_config, model_dir, monkeypatch):
    model_config.evaluate.n = 1
    with pytest.raises(UsageError, match="evaluate.n is 1; variations are compared with at least 2"):
        variations.Study(settings.parse(model_config), str(model_dir))
    monkeypatch.setattr(variations, "GEOMETRY", ("depth", "albedo"))
    with pytest.raises(UsageError, match="has no albedo; this study needs it"):
        variations.Study(settings.parse(model_config), str(model_dir))
