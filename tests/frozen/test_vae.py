"""Tests that autoencoders are exact where they must be, and that the fitted one is a projection."""

import numpy as np
import pytest

from mmgen_jax.data.shapes.builder import scene_pixels
from mmgen_jax.frozen.autoencoders import identity, patch_pca, registry
from mmgen_jax.frozen.autoencoders.patches import depth_to_space, space_to_depth
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError


@pytest.fixture(scope="module")
def images():
    pixels, _ = scene_pixels(0, "train", np.arange(200), 16)
    return {m: to_array(x) for m, x in pixels.items()}


def test_space_to_depth_keeps_patches_together():
    x = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    y = space_to_depth(x, 2)
    assert y.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(y[1, 1, 2], x[1, 2:4, 4:6].reshape(-1))
    np.testing.assert_array_equal(depth_to_space(y, 2), x)


def test_identity_is_exact(images):
    autoencoder = identity.Identity(NAMES, 4)
    for m, x in autoencoder.decode(autoencoder.encode(images)).items():
        np.testing.assert_array_equal(x, images[m])


def test_patch_pca_with_all_components_is_exact_and_with_few_the_best_projection(images):
    whole = patch_pca.fit_patch_pca(images, 2, {"rgb": 12, "depth": 4, "normal": 12, "mask": 12}, 0.5)
    for m, x in whole.decode(whole.encode(images)).items():
        np.testing.assert_allclose(x, images[m], atol=2e-4)
    few = patch_pca.fit_patch_pca({"rgb": images["rgb"]}, 2, {"rgb": 3}, 1.0)
    patches = np.asarray(space_to_depth(images["rgb"], 2)).reshape(-1, 12)
    singular = np.linalg.svd(patches - patches.mean(0), compute_uv=False)
    latents = few.encode({"rgb": images["rgb"]})["rgb"]
    back = (np.asarray(latents) * few.scale["rgb"]) @ few.basis["rgb"].T + few.mean["rgb"]
    error = ((back.reshape(-1, 12) - patches) ** 2).sum()
    np.testing.assert_allclose(error, (singular[3:] ** 2).sum(), rtol=1e-3)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 1.0])
def test_std_is_that_of_the_latents(images, whitening):
    autoencoder = patch_pca.fit_patch_pca(images, 4, {"rgb": 8, "depth": 4, "normal": 8, "mask": 8}, whitening)
    for m, z in autoencoder.encode(images).items():
        np.testing.assert_allclose(np.asarray(z).std((0, 1, 2)), autoencoder.std[m], rtol=0.02)
        np.testing.assert_allclose(np.mean(autoencoder.std[m] ** 2), 1, rtol=1e-4)


def test_a_modality_that_no_tile_has_is_named(images):
    with pytest.raises(UsageError, match="no tile has depth"):
        patch_pca.fit_patch_pca(images | {"depth": images["depth"][:0]}, 2, {m: 2 for m in images}, 0.5)


def test_arrays_rebuild_the_autoencoder(images):
    fitted = patch_pca.fit_patch_pca(images, 4, {"rgb": 8, "depth": 4, "normal": 8, "mask": 8}, 0.5)
    again = registry.rebuild(fitted.spec, NAMES, fitted.arrays())
    for m, z in fitted.encode(images).items():
        np.testing.assert_array_equal(z, again.encode(images)[m])
    with pytest.raises(UsageError, match="autoencoder.name is 'other'; allowed: identity, patch_pca, kl"):
        registry.rebuild({"name": "other"}, NAMES, {})
