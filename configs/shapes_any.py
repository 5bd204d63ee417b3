"""Any to any: each modality of the rendered scenes is given, generated or ignored, in all 65 ways that there are.

The mix serves other data as well: `from mmgen_jax.configs.shapes_any import ANY_TO_ANY`.
"""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_tiny

# What is ignored is pure noise and does not count, so the model also learns what it knows without it. Times of its own
# for each modality let a sampler run some ahead of others, and hold what is given at any time.
ANY_TO_ANY = (
    (0.20, "none", 0.00, "all"),
    (0.20, "rgb", 0.01, "all"),
    (0.10, "any", 0.01, "all"),
    (0.15, "rgb", 0.01, "all", "any"),
    (0.20, "any", 0.01, "all", "any"),
    (0.05, "none", 0.00, "all", "any"),
    (0.10, "none", 0.00, "all", "any", "own"),
)


def get_config() -> ConfigDict:
    config = shapes_tiny.get_config()
    config.objective.mix = ANY_TO_ANY
    config.train.init_from = "runs/shapes_tiny"  # which has learned the same without anything ignored
    config.train.steps = 6_000
    config.optim.decay_steps = 3_000
    return config
