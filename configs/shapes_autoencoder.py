"""An autoencoder of rendered scenes at 64 x 64: python -m mmgen_jax.train_autoencoder with this config trains it."""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.dir = "data/shapes64"
    config.data.image_size = 64

    config.autoencoder.name = "conv"
    config.autoencoder.factor = 8  # 8 x 8 latent positions
    config.autoencoder.channels = 48
    config.autoencoder.noise = 0.05
    config.autoencoder.chunk = 128
    config.model.patch = 1

    config.optim.learning_rate = 1e-3
    config.optim.warmup_steps = 200
    config.optim.decay_steps = 4_000
    config.optim.b2 = 0.99
    config.optim.ema_decay = 0.999
    config.optim.ema_ramp = 10.0

    config.train.batch = 16
    config.train.steps = 6_000
    config.train.save_every = 500
    config.train.sample_every = 1_000
    return config
