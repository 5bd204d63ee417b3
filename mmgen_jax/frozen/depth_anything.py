"""Depth Anything V2 (Yang et al. 2024): DINOv2 and a DPT head -> relative inverse depth."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np
from etils import epath
from flax import nnx
from jaxtyping import Array, Float

from mmgen_jax.frozen import abstract, dino_files, torch_names
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.dino import DinoConfig, DinoNetwork, normalise
from mmgen_jax.frozen.dpt import DPT, DPTConfig
from mmgen_jax.frozen.resample import bicubic, bilinear, resize
from mmgen_jax.system.errors import UsageError

SHORT_SIDE = 518  # pixels that the network was trained for
TAPS = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24), 40: (10, 20, 30, 40)}  # blocks that the head reads, by depth

# The original names -> those of the transformers library.
PARTS = (
    (r"^depth_head\.projects\.(\d)\.", r"neck.reassemble_stage.layers.\1.projection."),
    (r"^depth_head\.resize_layers\.(\d)\.", r"neck.reassemble_stage.layers.\1.resize."),
    (r"^depth_head\.scratch\.output_conv1\.", "head.conv1."),
    (r"^depth_head\.scratch\.output_conv2\.0\.", "head.conv2."),
    (r"^depth_head\.scratch\.output_conv2\.2\.", "head.conv3."),
    (r"\.out_conv\.", ".projection."),
    (r"\.resConfUnit([12])\.conv([12])\.", r".residual_layer\1.convolution\2."),
)
COUNTED = (  # these count from 1, and refinenets from the finest on
    (r"^depth_head\.scratch\.layer(\d)_rn\.", lambda m: f"neck.convs.{int(m[1]) - 1}."),
    (r"^depth_head\.scratch\.refinenet(\d)\.", lambda m: f"neck.fusion_stage.layers.{4 - int(m[1])}."),
)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("backbone", "head"),
    meta_fields=("config", "head_config", "taps", "dtype", "short_side"),
)
@dataclass(frozen=True)
class DepthAnything:
    """Relative inverse depth of images: larger = nearer, of any scale, at least 0.

    Attributes:
      config, head_config: of DINOv2 and of the head.
      backbone, head: their weights.
      taps: blocks that the head reads.
      dtype: type that matrices are multiplied in.
      short_side: to which images are resized.
    """

    config: DinoConfig
    head_config: DPTConfig
    backbone: Params
    head: Params
    taps: tuple[int, ...]
    dtype: str = "float32"
    short_side: int = SHORT_SIDE

    def __call__(self, rgb: Float[Array, "B H W 3"]) -> Float[Array, "B H W"]:
        """rgb in [-1, 1] -> depth of each pixel, float32. Images are resized as in the original: multiples of 14."""
        height, width = rgb.shape[1:3]
        sides = inner_size(height, width, self.short_side, self.config.patch)
        depth = self.network(resize(normalise(rgb), *sides, bicubic))
        return resize(depth[..., None], height, width, bilinear)[..., 0]

    def network(self, pixels: Float[Array, "B h w 3"]) -> Float[Array, "B h w"]:
        """The same for pixels that are prepared, sides multiples of 14."""
        tokens = nnx.merge(abstract.graphdef(DinoNetwork, self.config, self.dtype), self.backbone)
        head = nnx.merge(abstract.graphdef(DPT, self.head_config, self.dtype), self.head)
        b, height, width = pixels.shape[:3]
        grid = (height // self.config.patch, width // self.config.patch)
        features = [x.reshape(b, *grid, -1) for x in tokens(pixels, self.taps, bicubic)]
        return head(features, height, width)


def inner_size(height: int, width: int, short_side: int, patch: int) -> tuple[int, int]:
    """Height and width, multiples of `patch`, of which the smaller is nearest to and not below `short_side`."""
    scale = short_side / min(height, width)

    def fit(side: int) -> int:
        near = round(scale * side / patch) * patch
        return near if near >= short_side else math.ceil(scale * side / patch) * patch

    return fit(height), fit(width)


def abstract_head(config: DPTConfig) -> Params:
    """Shapes of the head's weights."""
    return abstract.params(DPT, config, "float32")


def _renamed(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in (*COUNTED, *PARTS):
            name = re.sub(pattern, replacement, name)
        renamed[re.sub(r"^pretrained\.", "backbone.", name)] = value
    return renamed


def _head_config(state: Mapping[str, np.ndarray], inputs: int) -> DPTConfig:
    return DPTConfig(
        inputs=inputs,
        necks=tuple(state[f"neck.convs.{i}.weight"].shape[1] for i in range(4)),
        fusion=state["neck.convs.0.weight"].shape[0],
        hidden=state["head.conv2.weight"].shape[0],
    )


def load(path: epath.PathLike, dtype: str = "float32") -> DepthAnything:
    """Reads the original .pth, a folder in transformers' format, or a hub id.

    Raises UsageError if there is no such model, for a metric one, or naming the first weight that does not fit.
    """
    state, stored, file = dino_files.find(path)
    if stored.get("depth_estimation_type", "relative") != "relative":
        raise UsageError(f"{file} predicts {stored['depth_estimation_type']} depth; allowed: relative")
    state = _renamed(state)
    backbone = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    backbone = dino_files.official(backbone)
    described = stored.get("backbone_config") or {}
    try:
        config = dino_files.guess_config(backbone, described.get("num_attention_heads"))
        head = {name: value for name, value in state.items() if not name.startswith("backbone.")}
        head_config = _head_config(head, config.width)
        taps = tuple(described.get("out_indices") or TAPS[config.depth])
    except (ValueError, KeyError) as error:
        raise UsageError(f"{file} holds no Depth Anything V2: {error} is missing") from error
    return DepthAnything(
        config,
        head_config,
        dino_files.to_params(backbone, config, file),
        # Files of the original keep an unused unit of the coarsest fusion, transformers' too; ours has it as well.
        torch_names.from_torch(head, abstract_head(head_config), file),
        taps,
        dtype,
    )
