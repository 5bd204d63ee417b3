"""The bundled model: rendered scenes at 32 x 32, trained on a laptop's CPU."""

from ml_collections import ConfigDict

from mmgen_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.data.dir = "data/shapes32"
    config.data.image_size = 32

    config.autoencoder.name = "patch_pca"
    config.autoencoder.factor = 4  # 8 x 8 tokens
    config.autoencoder.components = (16, 8, 16, 16)

    config.model.depth = 6
    config.model.width = 160
    config.model.heads = 5
    config.model.patch = 1
    config.model.precondition = True

    # Any subset may be given, the picture most often; every modality counts in every row.
    config.objective.mix = (
        (0.4, "none", 0.00, "all"),
        (0.3, "rgb", 0.01, "all"),
        (0.3, "any", 0.01, "all"),
    )
    config.objective.loss_weights = (1.0, 1.0, 1.0, 1.0)

    config.optim.learning_rate = 8e-4
    config.optim.warmup_steps = 500
    config.optim.decay_steps = 5_500
    config.optim.b2 = 0.99
    config.optim.ema_decay = 0.999
    config.optim.ema_ramp = 10.0

    config.train.batch = 32
    config.train.steps = 16_000
    config.train.save_every = 1_000
    config.train.sample_every = 2_000

    config.sample.solver = "heun"
    config.sample.steps = 25
    return config
