"""The published model: XL/2 on ImageNet at 256 x 256, 600k steps, from latents and features made once.

Make the data first: docs/use/own-images.md (tiles) and python -m mmgen_jax.encode --config=configs/imagenet256_xl2.py
"""

from ml_collections import ConfigDict

from mmgen_jax.configs import base


def get_config() -> ConfigDict:
    config = base.get_config()  # its model, mix, loss weights and optimizer are the paper's
    config.data.dir = "data/imagenet256"  # python -m mmgen_jax.data.trees.imagenet writes it
    config.data.latents = "data/imagenet256_latents"  # python -m mmgen_jax.encode writes them
    config.data.flip = False  # latents cannot be mirrored, and the published run mirrors nothing
    config.data.workers = 8  # reading processes; see docs/train/latents.md for how many samples/s they give

    config.autoencoder.name = "kl"  # 32 x 32 x 4 latents of each modality
    config.autoencoder.path = "stabilityai/sd-vae-ft-mse"  # hub id, folder or file

    config.features.source = "stored"  # "online" computes features instead of reading 0.4 MB per sample
    config.features.path = "facebook/dinov2-base"  # ViT-B/14; facebookresearch's .pth works too
    config.encode.features = True  # encode stores the features that "stored" reads
    config.model.feature_width = 768  # width of ViT-B/14

    config.model.dtype = "bfloat16"  # matrices are multiplied in bfloat16; parameters and losses stay float32
    config.model.unroll = 28  # no loop over the blocks: faster steps, minutes of compilation
    config.mesh.data = 1  # all devices split samples, weights, averages and moments;
    config.mesh.fsdp = -1  # docs/tpu/performance.md shows what that gains on which TPU
    return config
