"""Fine-tuning on Hypersim for understanding alone, the published 620k checkpoint: rgb is given, the rest learnt."""

from ml_collections import ConfigDict

from mmgen_jax.configs import hypersim_joint


def get_config() -> ConfigDict:
    config = hypersim_joint.get_config()  # the same data, initial weights and length
    config.objective.mix = ((1.0, "rgb", 0.0, "all"),)  # rgb is always given, exactly clean; the loss is on the others
    config.sample.task = "rgb"  # samples are drawn as in training, with
    config.sample.given_time = 0.0  # rgb exactly clean
    return config
