"""Models and batches of the shapes that a config asks for, made of random numbers: no data and no files are read."""

from __future__ import annotations

import jax
import numpy as np

from mmgen_jax.data.latents.record import FEATURES, PIXELS
from mmgen_jax.frozen import dino
from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import from_settings
from mmgen_jax.training.inputs import Inputs, LatentInputs, TileInputs

CLASSES = 1000  # classes of the stand-in; their number hardly changes the cost of anything
# DINOv2 by the width of its features.
DINO = {
    384: dino.DinoConfig(width=384, heads=6, mlp_width=1536),
    768: dino.DinoConfig(),
    1024: dino.DinoConfig(width=1024, depth=24, heads=16, mlp_width=4096),
    1536: dino.DinoConfig(width=1536, depth=40, heads=24, mlp_width=4096, gated=True),
}


def architecture(config: Settings) -> Architecture:
    """Of a validated config; raises UsageError for shapes that its kind of autoencoder cannot have."""
    classes = tuple(map(str, range(CLASSES)))
    autoencoder = registry.stand_in(config.autoencoder, tuple(config.data.modalities))
    return from_settings(config, autoencoder, classes, np.zeros((0, 3), np.uint8), ())


def inputs(config: Settings, chosen: Autoencoder) -> Inputs:
    """As `setup.make_inputs`, with a DINOv2 of random weights where features are computed online."""
    network = None
    if config.features.source == "online":
        width = config.model.feature_width
        if width not in DINO:
            allowed = ", ".join(map(str, DINO))
            raise UsageError(f"config key model.feature_width is {width}; those of DINOv2 are {allowed}")
        shapes = dino.abstract_params(DINO[width])
        rng = np.random.default_rng(0)
        params = jax.tree.map(lambda s: 0.02 * rng.standard_normal(s.shape, np.float32), shapes)
        grid = config.data.image_size // (config.autoencoder.factor * config.model.patch)
        network = dino.Dino(DINO[width], params, config.features.dtype, grid)
    return (LatentInputs if config.data.latents else TileInputs)(chosen, network)


def batch_shapes(config: Settings, of: Architecture) -> dict[str, jax.ShapeDtypeStruct]:
    """A global batch as `pipeline.batches` makes it."""
    rows, size = config.train.batch, config.data.image_size
    batch = {
        "class_id": jax.ShapeDtypeStruct((rows,), np.int32),
        "present": jax.ShapeDtypeStruct((rows, len(of.modalities)), bool),
    }
    for m, (_, side, _, channels) in of.latent_shapes(rows).items():
        pixels = (rows, size, size, MODALITIES[m].channels), MODALITIES[m].dtype
        moments = (rows, side, side, 2 * channels), np.float16
        batch[m] = jax.ShapeDtypeStruct(*(moments if config.data.latents else pixels))
    if config.data.latents and config.features.source == "stored":
        tokens = (of.latent_size // of.model.patch) ** 2
        batch[FEATURES] = jax.ShapeDtypeStruct((rows, tokens, of.model.feature_width), np.float16)
    if config.data.latents and config.features.source == "online":
        batch[PIXELS] = jax.ShapeDtypeStruct((rows, size, size, 3), np.uint8)
    return batch


def batch(config: Settings, of: Architecture) -> dict[str, np.ndarray]:
    """Random numbers of `batch_shapes`; every modality is present."""
    rng = np.random.default_rng(0)

    def values(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        if name == "class_id":
            return rng.integers(0, CLASSES, shape).astype(dtype)
        if np.issubdtype(dtype, np.bool_):
            return np.ones(shape, bool)
        if np.issubdtype(dtype, np.integer):
            return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
        return rng.standard_normal(shape, np.float32).astype(dtype)

    return {name: values(name, s.shape, np.dtype(s.dtype)) for name, s in batch_shapes(config, of).items()}
