"""Stand-ins have the shapes of the real things."""

import jax
import numpy as np
import pytest
from annotations import unchecked

from configs import imagenet256_xl2
from mmgen_jax import settings
from mmgen_jax.data import pipeline
from mmgen_jax.models import architectures
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import setup, standins


def shapes(tree):
    return jax.tree.map(lambda x: (x.shape, str(x.dtype)), tree)


def test_batches_are_as_the_pipeline_makes_them(tiny_config, tmp_path):
    chosen = settings.parse(tiny_config)
    data = setup.open_data(chosen)
    real = next(pipeline.batches(data.source, data.transforms, chosen.train.batch, seed=0))
    found = standins.batch(chosen, standins.architecture(chosen))
    assert shapes(found) == shapes({name: real[name] for name in found}) and set(found) == set(real)


def test_the_model_differs_from_the_real_one_in_its_classes_only(tiny_config, tmp_path):
    chosen = settings.parse(tiny_config)
    real = setup.make_architecture(chosen, tmp_path, setup.open_data(chosen))
    found = standins.architecture(chosen)
    assert architectures.difference(found, real, "the other").startswith("model.num_classes is 1000, the other has")
    assert found.latent_shapes(3) == real.latent_shapes(3)


def test_stored_latents_and_features_of_the_published_recipe():
    chosen = settings.parse(imagenet256_xl2.get_config()).changed(train={"batch": 2})
    a = standins.architecture(chosen)
    batch = standins.batch(chosen, a)
    assert batch["features"].shape == (2, 256, 768) and batch["mask"].shape == (2, 32, 32, 8)
    assert np.isfinite(batch["features"]).all() and batch["present"].all()


def test_what_a_stand_in_cannot_be_is_named():
    chosen = Settings().changed(autoencoder={"name": "kl", "factor": 4})
    with pytest.raises(UsageError, match="autoencoder.factor is 4; that of a kl stand-in is 8"):
        standins.architecture(chosen)
    chosen = chosen.changed(features={"source": "online"}, model={"feature_width": 5})
    with unchecked(), pytest.raises(UsageError, match="model.feature_width is 5; the widths of DINOv2 are 384, 768"):
        standins.inputs(chosen, None)
