"""One call: depth, normals and regions from rgb, learned at pure noise by the errors of decoded images too."""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_rgb2x


def get_config() -> ConfigDict:
    config = shapes_rgb2x.get_config()
    config.objective.time = "noise"
    config.objective.decoded_weight = 0.5
    config.train.steps = 1_400
    config.sample.steps = 1
    config.sample.solver = "euler"
    config.sample.temperature = 0.0
    config.evaluate.steps = 1
    return config
