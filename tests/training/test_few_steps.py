"""A guided flow map is made of a trained model by `train.init_from`, resumes, and is read and sampled as such."""

import json

import jax
import numpy as np
import pytest

from configs import shapes_fewstep
from mmgen_jax import MMGen, evaluate, settings, train
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.models import architectures
from mmgen_jax.system.errors import UsageError


@pytest.fixture(scope="module")
def few(model_dir, tiles_dir):
    """Makes a config that makes a flow map of the tiny model."""

    def make(**train_settings):
        config = shapes_fewstep.get_config()
        config.data.update({"dir": tiles_dir, "image_size": 16})
        config.autoencoder.components = (6, 4, 6, 6)
        config.model.update({"depth": 2, "width": 16, "heads": 2})
        config.optim.update({"warmup_steps": 0, "decay_steps": 0})
        config.train.update({"batch": 16, "steps": 2, "save_every": 2, "log_every": 1, "sample_every": 2})
        config.train.update({"init_from": str(model_dir), **train_settings})
        config.sample.update({"n": 2, "batch": 2, "steps": 1})
        config.evaluate.update({"n": 4, "samples": 4, "batch": 4})
        return config

    return make


@pytest.fixture(scope="module")
def workdir(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("few") / "run"
    train.train(few(), folder)
    return folder


def test_a_run_says_how_far_its_average_velocities_are_off(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        for m in ("rgb", "depth", "normal", "mask"):
            assert row[f"average/{m}"] > 0 and row[f"loss/{m}"] > 0
    assert (workdir / "samples" / "00000002.png").exists()


def test_it_is_read_sampled_resumed_and_evaluated_as_a_flow_map(workdir, few, tmp_path):
    assert architectures.load(workdir).model.decoupled == 2 / 3
    out = MMGen.load(workdir).generate(class_id=0, guidance=2.0, solver="flow_map", steps=1, n=2)
    assert np.isfinite(out["depth"]).all()
    report = evaluate.run(few(), workdir, str(tmp_path / "metrics.json"))
    assert report["samples"] == 4 and report["protocol"]["model"] == f"{workdir}, step 2"
    train.train(few(steps=3, save_every=3, sample_every=0), workdir)
    assert json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3


def test_a_run_stays_what_it_is(workdir, few):
    config = few()
    config.model.decoupled, config.sample.solver = 0.0, "heun"
    with pytest.raises(UsageError, match="another architecture: the config's model.decoupled is 0.0, .* 0.66"):
        train.train(config, workdir)


def test_plain_models_are_made_of_flow_maps(workdir, few, tmp_path):
    """The weights are those of one network in either direction, but for those of the scale of guidance."""
    config = few(init_from=str(workdir), sample_every=0)
    config.model.decoupled, config.model.guided, config.sample.solver = 0.0, 0.0, "heun"
    train.train(config, tmp_path / "plain")
    assert architectures.load(tmp_path / "plain").model.decoupled == 0
    few_steps, plain = (jax.tree.map(np.shape, model_folders.load(f)[1]) for f in (workdir, tmp_path / "plain"))
    assert few_steps.pop("scale_embed") == {"linear": {"kernel": (8, 16)}} and few_steps == plain


def test_the_recipe_is_allowed():
    assert settings.parse(shapes_fewstep.get_config()).model.decoupled == 2 / 3
