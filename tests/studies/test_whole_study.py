"""The study of whole photos."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.studies import whole


def test_correlation_is_that_of_each_image():
    truth = np.arange(8.0).reshape(2, 2, 2)
    assert whole.correlation(3 * truth + 1, truth) == pytest.approx(1)
    assert whole.correlation(np.stack([truth[0], -truth[1]]), truth) == pytest.approx(0)


@pytest.mark.slow
def test_a_table_and_a_sheet(model_config, model_dir, tmp_path):
    rows = whole.run(settings.parse(model_config), str(model_dir), tmp_path / "sheet.png", width=60)
    assert list(rows) == [1, 2] and all(abs(value) <= 1 for value in rows.values())
    assert Image.open(tmp_path / "sheet.png").width > 200
