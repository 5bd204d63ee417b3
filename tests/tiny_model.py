"""A model with random weights, small enough that a test compiles and runs it in seconds."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from configs import shapes_tiny
from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders, weights
from mmgen_jax.data.shapes import builder
from mmgen_jax.data.shapes.solids import KINDS
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.frozen.autoencoders import patch_pca, registry
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE, REGIONS
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.training.architecture import from_settings

SIZE = 16


def config():
    """The bundled recipe, with a model and images of a size for tests."""
    c = shapes_tiny.get_config()
    c.data.image_size = SIZE
    c.autoencoder.components = (6, 4, 6, 6)
    c.model.depth, c.model.width, c.model.heads = 2, 16, 2
    c.sample.steps, c.sample.n, c.sample.batch = 2, 3, 4
    return c


@functools.cache
def pixels(count=3, split="test"):
    """Stored pixels of rendered scenes."""
    return builder.scene_pixels(0, split, np.arange(count), SIZE)[0]


@functools.cache
def values(count=3):
    """The values of the same scenes, as users get them."""
    return {m: MODALITIES[m].value(to_array(p), Facts(PALETTE)) for m, p in pixels(count).items()}


@functools.cache
def build():
    """Architecture and random parameters."""
    c = config()
    arrays = {m: to_array(p) for m, p in pixels(8, "train").items()}
    components = dict(zip(arrays, c.autoencoder.components, strict=True))
    autoencoder = patch_pca.fit_patch_pca(arrays, c.autoencoder.factor, components, c.autoencoder.whitening)
    architecture = from_settings(settings.parse(c), autoencoder, Facts(PALETTE, tuple(REGIONS), tuple(KINDS)))
    return architecture, random(architecture, 0)


def part(modalities, seed, **changes):
    """Architecture and random parameters of a model that knows only some of the modalities, of the same latents."""
    whole, _ = build()
    channels, std = dict(whole.model.modalities), dict(zip(whole.modalities, whole.model.data_std, strict=True))
    network = dataclasses.replace(
        whole.model,
        modalities=tuple((m, channels[m]) for m in modalities),
        data_std=tuple(std[m] for m in modalities),
    )
    autoencoder = registry.rebuild(whole.autoencoder.spec, modalities, whole.autoencoder.arrays())
    a = dataclasses.replace(whole, model=network, autoencoder=autoencoder)
    return dataclasses.replace(a, **changes), random(a, seed)


def random(architecture, seed):
    """Random parameters, also in the output layers, which are zero in a fresh model."""
    rng, shapes_ = np.random.default_rng(seed), jax.eval_shape(architecture.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: 0.2 * rng.normal(size=leaf.shape).astype(np.float32), shapes_)


def inputs(architecture, rows):
    """Random latents, times and classes of so many samples, as the network takes them."""
    keys = jax.random.split(jax.random.key(0), len(architecture.modalities) + 1)
    shapes = architecture.latent_shapes(rows).items()
    x = Latents((m, jax.random.normal(k, shape)) for k, (m, shape) in zip(keys, shapes, strict=False))
    t = jax.random.uniform(keys[-1], (rows, len(architecture.modalities)))
    return x, t, Prompt(jnp.arange(rows) % 8, jnp.zeros(rows, int))


def save(folder, model=None):
    """Writes a model folder."""
    architecture, params = model or build()
    folder.mkdir(parents=True, exist_ok=True)
    architecture.save(folder)
    weights.save_params(folder / model_folders.WEIGHTS_FILE, params)
    return folder
