"""Rgb and regions of the second half of the rendered scenes; see `configs/shapes_rgb_depth.py`."""

from ml_collections import ConfigDict

from mmgen_jax.configs import shapes_rgb_depth


def get_config() -> ConfigDict:
    return shapes_rgb_depth.of("mask", (16, 16), "train[50%:]")
