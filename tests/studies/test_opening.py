"""What all studies of images begin and end with."""

import types

import pytest
import tiny_model

from mmgen_jax import settings
from mmgen_jax.studies import composition, editing, guides, opening, solvers, two_models, variations
from mmgen_jax.system.errors import UsageError


def pair(folder):
    parts = [("rgb", "depth"), ("rgb", "mask")]
    return tuple(str(tiny_model.save(folder / names[1], tiny_model.part(names, 1))) for names in parts)


STUDIES = {
    "composition": lambda chosen, model, folder: composition.run(chosen, model, folder),
    "editing": lambda chosen, model, folder: editing.run(chosen, model, folder / "a.png"),
    "guides": lambda chosen, model, folder: guides.run(chosen, model, folder / "a.png"),
    "solvers": lambda chosen, model, folder: solvers.study(chosen, model, [1], 1),
    "two_models": lambda chosen, model, folder: two_models.run(chosen, model, pair(folder), folder / "a.png"),
    "variations": lambda chosen, model, folder: variations.run(chosen, model, folder / "a.png"),
}


@pytest.mark.parametrize("study", STUDIES)
def test_settings_of_another_model_are_refused(study, model_config, model_dir, tmp_path):
    model_config.model.width = 32
    with pytest.raises(UsageError, match=r"config key model\.width is 32"):
        STUDIES[study](settings.parse(model_config), str(model_dir), tmp_path)


def test_what_a_study_writes_is_said(model_config, tmp_path, monkeypatch, capsys):
    values = types.SimpleNamespace(config=model_config, workdir="model", out=str(tmp_path / "out"))
    monkeypatch.setattr(opening.flags, "FLAGS", values)
    calls = []

    def study(chosen, workdir, out):
        calls.append((chosen, workdir, out))

    opening.into_file(study)([])
    opening.into_folder(study, ("a.png", "b.png"))([])
    assert calls == [(settings.parse(model_config), "model", values.out)] * 2
    assert capsys.readouterr().out.split("\n")[1::2] == [
        f"written: {values.out}",
        f"written: {values.out}/a.png, {values.out}/b.png",
    ]
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="--out .* is a file; allowed: a folder"):
        opening.into_folder(study, ("a.png",))([])
