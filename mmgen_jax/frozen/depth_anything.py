"""Depth Anything V2, and V1 (Yang et al. 2024): DINOv2 and a DPT head -> relative inverse depth."""

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
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.tensor_files import fit, hub

SHORT_SIDE = 518  # pixels that the network was trained for
V2, V1 = KINDS = ("v2-relative", "v1-relative")
TAPS = {12: (3, 6, 9, 12), 24: (5, 12, 18, 24), 40: (10, 20, 30, 40)}  # blocks that V2's head reads, by depth
ANCHORS = ("pretrained.patch_embed.proj.weight", "backbone.embeddings.patch_embeddings.projection.weight")
NAMES = (  # (pattern of the names of released files without a config, kind)
    (r"depth_?anything_?v2", V2),
    (r"depth_anything_vit[sbl]14", V1),
)

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


def _head_config(state: Mapping[str, np.ndarray], inputs: int, source: object) -> DPTConfig:
    necks = [fit.shape_of(state, f"neck.convs.{i}.weight", 4, source) for i in range(4)]
    return DPTConfig(
        inputs=inputs,
        necks=(necks[0][1], necks[1][1], necks[2][1], necks[3][1]),
        fusion=necks[0][0],
        hidden=fit.shape_of(state, "head.conv2.weight", 4, source)[0],
    )


def _told(file: epath.Path) -> str:
    """The kind of a file without a config, by its name: weights of all kinds have the same names and shapes."""
    name = file.name.lower().replace("-", "_")
    if "metric" in name:
        raise UsageError(f"{file} predicts metric depth by its name; allowed: relative")
    for pattern, kind in NAMES:
        if re.search(pattern, name):
            return kind
    raise UsageError(
        f"{file} does not tell by its name which Depth Anything it is, and there is no {hub.CONFIG} beside it; "
        f"say so: depth-anything:{file},kind={V2} (or kind={V1}); metric models are not allowed"
    )


def _taps(kind: str, depth: int, file: epath.Path) -> tuple[int, ...]:
    """The numbers of the blocks that the head reads: V1's are the last four."""
    if kind == V1:
        return tuple(range(depth - 3, depth + 1))
    if depth not in TAPS:
        raise UsageError(f"{file} has {depth} blocks; a Depth Anything V2 has {', '.join(map(str, TAPS))}")
    return TAPS[depth]


def _described(stored: Mapping, file: epath.Path) -> tuple[int | None, tuple[int, ...]]:
    """The number of heads and the blocks that the head reads (or none), of the entries of a config in `file`."""
    if stored.get("model_type", "depth_anything") != "depth_anything":
        raise UsageError(f"{file}: model_type is {stored['model_type']!r}; allowed: depth_anything")
    if stored.get("depth_estimation_type", "relative") != "relative":
        raise UsageError(f"{file} predicts {stored['depth_estimation_type']} depth; allowed: relative")
    backbone = stored.get("backbone_config") or {}
    if not isinstance(backbone, dict):
        raise UsageError(f"{file}: backbone_config is {backbone!r}; it must have entries by name")
    taps = backbone.get("out_indices") or ()
    if not isinstance(taps, list | tuple) or not all(type(tap) is int for tap in taps) or len(taps) not in (0, 4):
        raise UsageError(f"{file}: out_indices is {taps!r}; it must be the numbers of four blocks")
    return dino_files.heads(backbone, file), tuple(taps)


def load(path: epath.PathLike, dtype: str = "float32", kind: str = "") -> DepthAnything:
    """Reads the original .pth, a folder in transformers' format, or a hub id.

    Without a config.json, `kind` says which of `KINDS` a file is; "" asks its name.
    Raises UsageError if there is no such model, for a metric one, or naming the first weight that does not fit.
    """
    if kind:
        choice("kind of depth-anything", kind, KINDS)
    state, stored, file = dino_files.find(path, ANCHORS)
    heads, taps = (None, ()) if stored is None else _described(stored, file.parent / hub.CONFIG)
    state = _renamed(state)
    backbone = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    backbone = dino_files.official(backbone)
    config = dino_files.guess_config(backbone, heads, file)
    if not taps:
        taps = _taps(kind or (_told(file) if stored is None else V2), config.depth, file)
    if not all(1 <= a <= config.depth for a in taps) or list(taps) != sorted(set(taps)):
        raise UsageError(f"{file} reads the blocks {taps}; allowed: ascending numbers from 1 to {config.depth}")
    head = {name: value for name, value in state.items() if not name.startswith("backbone.")}
    head_config = _head_config(head, config.width, file)
    return DepthAnything(
        config,
        head_config,
        dino_files.to_params(backbone, config, file),
        # Files of the original keep an unused unit of the coarsest fusion, transformers' too; ours has it as well.
        torch_names.from_torch(head, abstract_head(head_config), file),
        taps,
        dtype,
    )
