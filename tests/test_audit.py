"""Tests the audit command on a tiny model, and that `label` takes its list."""

import image_trees
import numpy as np
import pytest
from PIL import Image

from mmgen_jax import audit, label
from mmgen_jax.experts import suspects
from mmgen_jax.experts.suspects import Suspect
from mmgen_jax.metrics import auditing
from mmgen_jax.settings import parse
from mmgen_jax.studies import audit as study
from mmgen_jax.system.errors import UsageError


@pytest.fixture
def config(model_config):
    model_config.evaluate.update({"n": 6, "batch": 4, "steps": 1})
    return model_config


def test_audit_lists_and_shows(config, model_dir, tmp_path, capsys):
    found = audit.run(config, str(model_dir), str(tmp_path / "out"), beyond=0.5, draws=2)
    assert {s.modality for s in found} <= {"depth", "normal", "mask"}
    scores = [s.score for s in found]
    assert found and scores == sorted(scores, reverse=True) and min(scores) >= 0.5
    assert all(s.key.startswith("test-0000000") and 0 <= s.top <= 16 - s.side for s in found)
    listed = suspects.read(tmp_path / "out" / "suspects.tsv")
    assert {(m, key) for m, keys in listed.items() for key in keys} == {(s.modality, s.key) for s in found}
    with Image.open(tmp_path / "out" / "worst.png") as image:
        assert image.size[1] > 12 * 16
    assert "of 6 labels disagree by 0.5 typical deviations or more" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--beyond is nan"):
        audit.run(config, str(model_dir), str(tmp_path / "out"), beyond=np.nan)


def test_draws_differ_though_evaluation_is_without_noise(config, model_dir):
    assert config.evaluate.temperature == 0
    runner, scenes, facts = audit.opened(parse(config), str(model_dir), draws=3)
    drawn = auditing.predict(runner, scenes.reader.load([0, 1]), np.arange(2), "depth", facts).drawn
    assert np.abs(drawn[:, 0] - drawn[:, 1]).max() > 0.05 and np.abs(drawn[:, 1] - drawn[:, 2]).max() > 0.05
    once = auditing.drawing(parse(config), 1)
    assert once.evaluate.temperature == 0  # one answer is the best one
    config.evaluate.temperature = 0.5
    assert auditing.drawing(parse(config), 3).evaluate.temperature == 0.5


def test_the_study_has_a_row_for_each_corruption(config, model_dir):
    rows = list(study.study(parse(config), str(model_dir), draws=1))
    assert len(rows) == 15 and rows[0][:2] == ("depth", "patch of 2 pixels")
    assert all(0 <= value <= 1 for _, _, value in rows)


def test_label_makes_only_what_the_list_names(tmp_path):
    image_trees.folders(tmp_path / "in", count=5, key="{c}/{i:03d}")
    keys = sorted(p.relative_to(tmp_path / "in" / "rgb").with_suffix("").as_posix()
                  for p in (tmp_path / "in" / "rgb").rglob("*.png"))  # fmt: skip
    path = tmp_path / "suspects.tsv"
    suspects.write(path, [Suspect("depth", keys[1], 9.0, 0, 0, 4), Suspect("mask", keys[3], 8.0, 0, 0, 4)])
    experts = {m: f"precomputed:{tmp_path / 'in' / m}" for m in ("depth", "mask")}
    label.label(str(tmp_path / "in" / "rgb"), str(tmp_path / "again"), experts, only=str(path))
    made = {p.relative_to(tmp_path / "again").as_posix() for p in (tmp_path / "again").rglob("*/*.png")}
    assert made == {f"depth/{keys[1]}.png", f"mask/{keys[3]}.png"}
    suspects.write(path, [Suspect("depth", "elsewhere", 9.0, 0, 0, 4)])
    with pytest.raises(UsageError, match="names no depth or mask of an image in"):
        label.label(str(tmp_path / "in" / "rgb"), str(tmp_path / "other"), experts, only=str(path))
    assert not (tmp_path / "other").exists()
