"""An untrained autoencoder is PCA of patches, up to what the pixels' type loses."""

import jax
import numpy as np
import pytest

from mmgen_jax.frozen.autoencoders import conv
from mmgen_jax.frozen.autoencoders.conv_layers import ConvConfig
from mmgen_jax.frozen.autoencoders.patch_pca import fit_patch_pca
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError
from mmgen_jax.train_autoencoder import beginning

NAMES = ("rgb", "depth")


@pytest.fixture(scope="module")
def images():
    """Smooth images in [-1, 1], whose patches are far from white."""
    rng = np.random.default_rng(0)
    coarse = {m: rng.uniform(-1, 1, (24, 5, 5, MODALITIES[m].channels)) for m in NAMES}
    return {m: np.repeat(np.repeat(x, 5, 1), 5, 2)[:, :24, :24].astype(np.float32) for m, x in coarse.items()}


@pytest.mark.parametrize("channels", [5, 12])
def test_round_trips_are_those_of_pca(images, channels):
    config = ConvConfig(NAMES, factor=4, width=8, blocks=1, channels=channels)
    params = beginning.fresh(config, jax.random.key(0), images)
    found = conv.whitened(config, params, images, 1.0)
    back = found.decode(found.encode(images))
    pca = fit_patch_pca(images, 4, dict.fromkeys(NAMES, channels), whitening=1.0)
    expected = pca.decode(pca.encode(images))
    for m in NAMES:
        np.testing.assert_allclose(back[m], expected[m], atol=2e-3)
        assert np.abs(expected[m] - images[m]).max() > 0.05 or channels == 12


def test_channels_beyond_the_components_are_left_to_the_network(images):
    """A patch of one pixel of depth, repeated, has one component; the other channels say nothing and make no noise."""
    config = ConvConfig(NAMES, factor=2, width=8, blocks=1, channels=20)
    found = conv.whitened(config, beginning.fresh(config, jax.random.key(0), images), images, 1.0)
    latents = found.encode(images)
    assert (np.asarray(latents["depth"]).std((0, 1, 2)) > 0.5).sum() <= 4
    assert (np.asarray(latents["rgb"]).std((0, 1, 2)) > 0.5).sum() <= 12
    back = found.decode(latents)
    for m in NAMES:
        np.testing.assert_allclose(back[m], images[m], atol=5e-3)


def test_a_modality_without_images_is_named(images):
    config = ConvConfig(NAMES, factor=4, width=8, blocks=1, channels=5)
    with pytest.raises(UsageError, match="no tile has depth"):
        beginning.fresh(config, jax.random.key(0), images | {"depth": images["depth"][:0]})
