"""Few calls: makes a flow map (Decoupled MeanFlow) of a model of the rendered scenes, for 1, 2 or 4 steps."""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_tiny


def get_config() -> ConfigDict:
    config = shapes_tiny.get_config()
    config.model.decoupled = 2 / 3  # the other blocks see the end of a step; there are no more parameters
    config.model.guided = 4.0  # guidance needs no second call, up to this scale
    config.train.init_from = "shapes-tiny"  # whose velocity the average is learned from
    config.train.steps = 2_000
    config.optim.learning_rate = 2e-4
    config.optim.warmup_steps = 100
    config.optim.decay_steps = 1_000
    config.sample.solver = "flow_map"
    config.sample.steps = 4
    return config
