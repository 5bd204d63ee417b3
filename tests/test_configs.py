"""Every recipe in configs/ is valid and builds: model, one training step and its state, without computing."""

import dataclasses
import importlib
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from configs import base
from mmgen_jax import settings
from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE, REGIONS
from mmgen_jax.parallel import sharding
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import setup, standins
from mmgen_jax.training.architecture import from_settings

RECIPES = sorted(p.stem for p in (Path(__file__).parents[1] / "configs").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_builds(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    chosen = settings.parse(config)
    classes = tuple(map(str, range(10)))
    autoencoder = registry.stand_in(chosen.autoencoder, chosen.data.modalities)
    a = from_settings(chosen, autoencoder, Facts(PALETTE, REGIONS, classes))
    training = setup.assemble(chosen, a, sharding.make_mesh(jax.devices()[:1]))
    batch = standins.batch_shapes(chosen, a)
    new, metrics = jax.eval_shape(training.step, training.state, setup.make_inputs(chosen, a.autoencoder), batch)
    assert jax.tree.map(lambda s: s.shape, new) == jax.tree.map(lambda s: s.shape, training.state)
    assert {f"loss/{m}" for m in a.modalities} <= set(metrics)
    assert ("loss/alignment" in metrics) == (config.features.source != "none")


def test_the_defaults_are_allowed_and_parse_to_themselves():
    assert settings.parse(base.get_config()) == settings.Settings()


def test_a_recipe_from_before_a_modality_was_registered_parses():
    config = base.get_config()
    with config.unlocked():
        del config.sample.images["mask"]
    assert settings.parse(config) == settings.Settings()


def test_the_mesh_has_a_setting_for_each_axis():
    assert tuple(vars(settings.Mesh())) == sharding.AXES


def test_every_value_of_a_recipe_is_in_its_settings():
    config = importlib.import_module("configs.shapes_tiny").get_config()
    parsed = settings.parse(config)
    assert dataclasses.asdict(parsed) == config.to_dict() != base.get_config().to_dict()
    assert parsed.to_json() == config.to_json_best_effort(indent=1) + "\n"


def test_the_page_of_all_settings_is_up_to_date():
    page = Path(__file__).parents[1] / "docs" / "train" / "settings.md"
    assert page.read_text() == settings.table(), "python -m mmgen_jax.settings > docs/train/settings.md"


def test_changed_settings_are_checked_again():
    changed = settings.Settings().changed(train={"batch": 12, "accumulate": 5}, model={"depth": 2})
    assert (changed.train.batch, changed.model.depth, changed.model.width) == (12, 2, 1152)
    with pytest.raises(UsageError, match="train.accumulate is 5; it must divide train.batch = 12"):
        settings.check(changed)
    with pytest.raises(UsageError, match="model.depth is 0; it must be an integer 1 to 10000"):
        settings.check(settings.Settings().changed(model={"depth": 0}))


@pytest.mark.parametrize(
    "section, key, value",
    [
        ("model", "precondition", True),
        ("sample", "solver", "euler_maruyama"),
        ("evaluate", "solver", "euler_maruyama"),
    ],
)
def test_what_rests_on_the_linear_path_is_refused_on_another(section, key, value):
    config = base.get_config()
    config.objective.path = "cosine"
    config.sample.solver = "heun"
    settings.parse(config)
    config[section][key] = value
    with pytest.raises(UsageError, match=f"{section}.{key} is .*, which needs objective.path = linear"):
        settings.parse(config)


@pytest.mark.parametrize("section", ["sample", "evaluate"])
def test_average_velocities_are_followed_only_of_flow_maps(section):
    config = base.get_config()
    config[section].solver = "flow_map"
    with pytest.raises(UsageError, match=f"{section}.solver is 'flow_map', which needs model.decoupled above 0"):
        settings.parse(config)
    config.model.decoupled = 0.5
    settings.parse(config)


def test_unknown_missing_and_wrong_settings_are_named():
    config = base.get_config()
    config.model.deepness = 4
    with pytest.raises(UsageError, match="unknown config key model.deepness"):
        settings.parse(config)
    config = base.get_config()
    config.model = ConfigDict()
    with pytest.raises(UsageError, match="config key model.depth is missing; it must be an integer 1 to 10000"):
        settings.parse(config)
    for mix in ((1, 2), (("x", "none", 0.0, "all"),), ((1.0, None, 0.0, "all"),), "abc"):
        config = base.get_config()
        with config.unlocked(), config.ignore_type():
            config.objective.mix = mix
        with pytest.raises(UsageError, match="objective.mix is .* a tuple of rows"):
            settings.parse(config)
    for key, value in (("eps", 0.0), ("b1", 1.0), ("b2", 1.0), ("clip_norm", 0.0)):
        config = base.get_config()
        config.optim[key] = value
        with pytest.raises(UsageError, match=f"optim.{key} is {value}; it must be a .*number"):
            settings.parse(config)
    config = base.get_config()
    config.objective.label_dropout = 1.5
    with pytest.raises(UsageError, match="objective.label_dropout is 1.5; it must be a number 0 to 1"):
        settings.parse(config)
