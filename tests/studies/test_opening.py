"""What all studies of images begin with."""

import pytest
import tiny_model

from mmgen_jax import settings
from mmgen_jax.studies import composition, editing, guides, solvers, two_models, variations
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
