"""Tests the study of guides."""

import numpy as np
import pytest
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE
from mmgen_jax.studies import guides, opening
from mmgen_jax.system.errors import UsageError


def test_points_are_those_of_the_scenes():
    depth = np.linspace(0, 1, 2 * 4 * 6).reshape(2, 4, 6)
    rows, there = guides.chosen_points(depth, 5, seed=0)
    assert rows.shape == (2, 5, 3) and there.sum((1, 2)).tolist() == [5, 5]
    for i in range(2):
        x, y = rows[i, :, 0].astype(int), rows[i, :, 1].astype(int)
        assert there[i, y, x].all()
        np.testing.assert_array_equal(depth[i, y, x], rows[i, :, 2])


def test_errors_are_those_of_metres():
    truth, there = np.zeros((1, 2, 2)), np.array([[[True, False], [False, False]]])
    made = np.array([[[1.0, 0.0], [0.0, 0.0]]])  # nearest, 2 m, where the truth is farthest, 4 m
    assert guides.errors(made, truth, there, (2.0, 4.0)) == pytest.approx((0.5, 0.0))


@pytest.mark.slow
def test_two_tables_and_a_sheet(model_config, model_dir, tmp_path):
    model_config.evaluate.n, model_config.sample.steps, model_config.sample.solver = 3, 3, "euler"
    rows = guides.run(settings.parse(model_config), str(model_dir), str(tmp_path / "sheet.png"), points=4)
    assert [row[2] for row in rows[:5]] == [3, 3, 9, 3 * (3 + 2 * 2), 9]
    assert rows[2][3] < rows[0][3]  # at the points
    assert rows[12][-1] < rows[10][-1]  # the colour
    assert Image.open(tmp_path / "sheet.png").width > 300


def test_a_model_without_depth_is_refused(model_config, model_dir, monkeypatch, tmp_path):
    monkeypatch.setattr(opening.tiles, "read_facts", lambda folder: Facts(PALETTE))
    with pytest.raises(UsageError, match="this study needs rgb and depth in metres; the model has rgb, depth"):
        guides.run(settings.parse(model_config), str(model_dir), str(tmp_path / "sheet.png"))
