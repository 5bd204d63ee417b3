"""Fine-tuning on Hypersim with the mix of the training from scratch: joint samples and one given modality."""

from ml_collections import ConfigDict

from mmgen_jax.configs import imagenet256_xl2


def get_config() -> ConfigDict:
    config = imagenet256_xl2.get_config()  # model, autoencoder, features and mix
    config.data.dir = "data/hypersim256"  # python -m mmgen_jax.data.trees.hypersim writes it; it has no classes
    config.data.latents = "data/hypersim256_latents"  # python -m mmgen_jax.encode with this config writes them
    config.train.init_from = "converted/0600000"  # python -m mmgen_jax.convert 0600000.pt converted/0600000 writes it
    config.train.steps = 20_000  # as published
    config.train.save_every = 1_000  # the run is short, so checkpoints
    config.train.sample_every = 1_000  # and pictures are made more often
    return config
