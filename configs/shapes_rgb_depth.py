"""Rgb and depth of the first half of the rendered scenes: one of two models that share latents and not one sample.

`configs/shapes_rgb_mask.py` is the other one. The two together make rgb of depth and regions, which neither of them has
ever seen together. Both read latents of one autoencoder:

python -m mmgen_jax.encode --config=configs/shapes_tiny.py --config.encode.mirror=True --out=data/shapes32_latents
"""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_tiny


def of(other: str, components: tuple[int, int], split: str) -> ConfigDict:
    """The recipe of a model of rgb and one other modality, trained on a part of the latents."""
    config = shapes_tiny.get_config()
    config.data.latents = "data/shapes32_latents"
    config.data.modalities = ("rgb", other)
    config.data.train_split = split
    config.data.flip = False  # mirrored tiles are among the latents
    config.autoencoder.components = components

    config.model.depth = 4
    config.model.width = 96
    config.model.heads = 3

    # A composition asks for rgb with the other given, and for rgb with the other ignored.
    config.objective.mix = (
        (0.20, "none", 0.00, "all"),
        (0.15, "rgb", 0.01, "all"),
        (0.35, other, 0.01, "all"),
        (0.30, "none", 0.00, "all", other),
    )
    config.objective.loss_weights = (1.0, 1.0)

    config.optim.learning_rate = 2e-3
    config.optim.warmup_steps = 100
    config.optim.decay_steps = 250

    config.train.batch = 64
    config.train.steps = 1_250
    config.train.save_every = 250
    config.train.sample_every = 0

    config.sample.wanted = "rgb"
    return config


def get_config() -> ConfigDict:
    return of("depth", (16, 8), "train[:50%]")
