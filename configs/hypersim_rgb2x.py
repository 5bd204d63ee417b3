"""Fine-tuning on Hypersim for understanding alone, the published 620k checkpoint: rgb is given, the rest learnt."""

from ml_collections import ConfigDict

from configs import hypersim_joint


def get_config() -> ConfigDict:
    config = hypersim_joint.get_config()  # data, start and length
    config.objective.mix = ((1.0, "rgb", 0.0, "all"),)  # always given, exactly clean; loss on the other three
    config.sample.task = "rgb"  # sampled as it was trained:
    config.sample.given_time = 0.0  # rgb exactly clean
    return config
