"""The published fine-tuning rgb -> X, on rendered scenes: rgb is always given, exactly clean, and does not count."""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_tiny


def get_config() -> ConfigDict:
    config = shapes_tiny.get_config()
    config.objective.mix = ((1.0, "rgb", 0.0, "all"),)
    config.optim.learning_rate = 2e-4
    config.optim.decay_steps = 500
    config.optim.warmup_steps = 100
    config.train.steps = 2_000
    config.train.init_from = "shapes-tiny"  # a bundled model, a model folder or a workdir
    config.sample.task = "rgb"
    config.sample.given_time = 0.0  # as in training
    return config
