"""A model of the rich scenes at 64 x 64: any to any, on latents of an autoencoder that was trained on them.

It has not been trained to its end yet, so its length and its learning rate are a first guess.
"""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_any


def get_config() -> ConfigDict:
    config = shapes_any.get_config()  # the mix and the recipe
    config.train.init_from = ""
    config.data.dir = "data/rich64"
    config.data.latents = "data/rich64_latents"  # python -m mmgen_jax.encode with this config writes them
    config.data.image_size = 64
    config.data.flip = False  # the latents are stored mirrored as well

    config.autoencoder.name = "conv"
    config.autoencoder.path = "runs/autoencoder"  # python -m mmgen_jax.train_autoencoder writes it
    config.autoencoder.factor = 8  # 8 x 8 tokens
    config.autoencoder.channels = 64
    config.autoencoder.components = ()
    config.autoencoder.chunk = 128

    config.model.depth = 6
    config.model.width = 224
    config.model.heads = 7
    config.model.dtype = "bfloat16"  # on CPUs with units for it, this and
    config.model.unroll = 6  # no loop over the blocks take a third of the time

    config.encode.mirror = True

    config.train.batch = 64
    config.train.steps = 30_000
    config.train.evaluate_every = 2_000
    config.optim.decay_steps = 10_000
    return config
