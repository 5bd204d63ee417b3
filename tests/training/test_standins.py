"""Stand-ins have the shapes of the real things."""

import jax
import numpy as np
import pytest

from configs import base, imagenet256_xl2
from mmgen_jax.data import pipeline
from mmgen_jax.data.train_data import open_data
from mmgen_jax.models import architecture as architectures
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import setup as recipe
from mmgen_jax.training import standins


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


def test_batches_are_as_the_pipeline_makes_them(tiny_config, tmp_path):
    data = open_data(tiny_config)
    real = next(pipeline.batches(data.source, data.transforms, tiny_config.train.batch, seed=0))
    found = standins.batch(tiny_config, standins.architecture(tiny_config))
    assert shapes(found) == shapes({name: real[name] for name in found}) and set(found) == set(real)


def test_the_model_differs_from_the_real_one_in_its_classes_only(tiny_config, tmp_path):
    real = recipe.make_architecture(tiny_config, tmp_path, open_data(tiny_config))
    found = standins.architecture(tiny_config)
    assert architectures.difference(found, real).startswith("model.num_classes is 1000")
    assert found.latent_shapes(3) == real.latent_shapes(3)


def test_stored_latents_and_features_of_the_published_recipe():
    config = imagenet256_xl2.get_config()
    config.train.batch = 2
    a = standins.architecture(config)
    batch = standins.batch(config, a)
    assert batch["features"].shape == (2, 256, 768) and batch["mask"].shape == (2, 32, 32, 8)
    assert np.isfinite(batch["features"]).all() and batch["present"].all()


def test_what_a_stand_in_cannot_be_is_named():
    config = base.get_config()
    config.autoencoder.update({"name": "kl", "factor": 4})
    with pytest.raises(UsageError, match="autoencoder.factor is 4; that of a kl stand-in is 8"):
        standins.architecture(config)
    config.features.source = "online"
    config.model.feature_width = 5
    with pytest.raises(UsageError, match="model.feature_width is 5; those of DINOv2 are 384, 768"):
        standins.inputs(config, None)
