"""A small model that learns visibly in three minutes on two CPU cores: what launch/quickstart.sh trains."""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_tiny


def get_config() -> ConfigDict:
    config = shapes_tiny.get_config()
    config.data.dir = "data/quickstart"

    config.model.depth = 4
    config.model.width = 96
    config.model.heads = 3

    config.optim.learning_rate = 2e-3
    config.optim.warmup_steps = 50
    config.optim.decay_steps = 0  # so that a run of any length follows the same path
    config.optim.ema_decay = 0.99

    config.train.steps = 1_800
    config.train.log_every = 25
    config.train.save_every = 300
    config.train.sample_every = 0

    config.evaluate.samples = 0
    return config
