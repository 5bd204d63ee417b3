"""The autoencoder of the rich scenes at 64 x 64: python -m mmgen_jax.train_autoencoder with this config trains it."""

from ml_collections import ConfigDict

from mmgen_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.dir = "data/rich64"
    config.data.image_size = 64

    config.autoencoder.name = "conv"
    config.autoencoder.factor = 8  # 8 x 8 latent positions
    config.autoencoder.channels = 64
    config.autoencoder.noise = 0.02
    config.autoencoder.dtype = "bfloat16"
    config.autoencoder.chunk = 128
    config.model.patch = 1

    # What the network adds to principal components is learned in a quarter of an hour on two CPU cores.
    config.optim.learning_rate = 2e-3
    config.optim.warmup_steps = 30
    config.optim.decay_steps = 350
    config.optim.b2 = 0.99
    config.optim.ema_decay = 0.99
    config.optim.ema_ramp = 10.0

    config.train.batch = 16
    config.train.steps = 700
    config.train.save_every = 200
    config.train.sample_every = 350
    return config
