"""B/2 on ImageNet at 256 x 256: the published recipe with a model of a fifth of the size, for one host."""

from ml_collections import ConfigDict

from mmgen_jax.configs import imagenet256_xl2


def get_config() -> ConfigDict:
    config = imagenet256_xl2.get_config()  # data, autoencoder, features and recipe
    config.model.depth = 12  # B: 12 blocks,
    config.model.unroll = 12  # no loop over them,
    config.model.width = 768  # 768 numbers per token,
    config.model.heads = 12  # 12 attention heads
    config.model.encoder_depth = 4  # alignment reads a third of the way up, as it does in XL
    config.train.steps = 400_000  # the length at which the models of this size are compared
    return config
