"""Random models and batches of the shapes that settings ask for; neither data nor files are read.

The benchmark and the compiler study use them in place of trained models and real batches.
"""

from __future__ import annotations

import jax
import numpy as np

from mmgen_jax.data.latents.record import FEATURES, PIXELS
from mmgen_jax.frozen import dino
from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import from_settings
from mmgen_jax.training.inputs import Inputs, LatentInputs, TileInputs

CLASSES = 1000  # number of classes of a stand-in; it hardly changes any cost
# The published sizes of DINOv2, by the width of their features.
DINO = {
    384: dino.DinoConfig(width=384, heads=6, mlp_width=1536),
    768: dino.DinoConfig(),
    1024: dino.DinoConfig(width=1024, depth=24, heads=16, mlp_width=4096),
    1536: dino.DinoConfig(width=1536, depth=40, heads=24, mlp_width=4096, gated=True),
}


def architecture(chosen: Settings) -> Architecture:
    """Makes the architecture of checked settings with a random autoencoder.

    Raises UsageError for shapes that this kind of autoencoder cannot have.
    """
    autoencoder = registry.stand_in(chosen.autoencoder, tuple(chosen.data.modalities))
    return from_settings(chosen, autoencoder, Facts(class_names=tuple(map(str, range(CLASSES)))))


def inputs(chosen: Settings, autoencoder: Autoencoder) -> Inputs:
    """Does what `setup.make_inputs` does, with a DINOv2 of random weights if features are computed online."""
    network = None
    if chosen.features.source == "online":
        width = chosen.model.feature_width
        if width not in DINO:
            allowed = ", ".join(map(str, DINO))
            raise UsageError(f"config key model.feature_width is {width}; the widths of DINOv2 are {allowed}")
        shapes = dino.abstract_params(DINO[width])
        rng = np.random.default_rng(0)
        params = jax.tree.map(lambda s: 0.02 * rng.standard_normal(s.shape, np.float32), shapes)
        grid = chosen.data.image_size // (chosen.autoencoder.factor * chosen.model.patch)
        network = dino.Dino(DINO[width], params, chosen.features.dtype, grid)
    return (LatentInputs if chosen.data.latents else TileInputs)(autoencoder, network)


def batch_shapes(chosen: Settings, of: Architecture) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a global batch as `pipeline.batches` makes it."""
    rows, size = chosen.train.batch, chosen.data.image_size
    batch = {
        "class_id": jax.ShapeDtypeStruct((rows,), np.int32),
        "present": jax.ShapeDtypeStruct((rows, len(of.modalities)), bool),
    }
    for m, (_, side, _, channels) in of.latent_shapes(rows).items():
        pixels = (rows, size, size, MODALITIES[m].channels), MODALITIES[m].dtype
        moments = (rows, side, side, 2 * channels), np.float16
        batch[m] = jax.ShapeDtypeStruct(*(moments if chosen.data.latents else pixels))
    if chosen.data.latents and chosen.features.source == "stored":
        tokens = (of.latent_size // of.model.patch) ** 2
        batch[FEATURES] = jax.ShapeDtypeStruct((rows, tokens, of.model.feature_width), np.float16)
    if chosen.data.latents and chosen.features.source == "online":
        batch[PIXELS] = jax.ShapeDtypeStruct((rows, size, size, 3), np.uint8)
    return batch


def batch(chosen: Settings, of: Architecture) -> dict[str, np.ndarray]:
    """A global batch of random numbers with the shapes of `batch_shapes`; every modality is present."""
    rng = np.random.default_rng(0)

    def values(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if name == "class_id":
            return rng.integers(0, CLASSES, shape).astype(dtype)
        if np.issubdtype(dtype, np.bool_):
            return np.ones(shape, bool)
        if np.issubdtype(dtype, np.integer):
            return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        return rng.standard_normal(shape, np.float32).astype(dtype)

    return {name: values(name, s.shape, np.dtype(s.dtype)) for name, s in batch_shapes(chosen, of).items()}
