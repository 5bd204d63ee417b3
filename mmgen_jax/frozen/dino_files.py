"""Reads weights of DINOv2 from files, with facebookresearch's names or those of the transformers library."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from flax import traverse_util

from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.dino import GRID, Dino, DinoConfig, abstract_params
from mmgen_jax.system import rules
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit, hub, states, tensors

ANCHORS = ("patch_embed.proj.weight", "embeddings.patch_embeddings.projection.weight")  # in both kinds of names
UNUSED = ("mask_token", "dino_head.", "ibot_head.")  # what weights begin with that only pretraining uses
HEAD_WIDTH = 64  # width of an attention head in all released models

# transformers' name -> facebookresearch's, part by part.
PARTS = (
    (r"^(dinov2|dinov2_with_registers)\.", ""),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.", ""),
    (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # chunked files of facebookresearch
)
# Within a block: our path -> facebookresearch's name.
BLOCK = {
    ("norm1", "scale"): "norm1.weight",
    ("norm1", "bias"): "norm1.bias",
    ("norm2", "scale"): "norm2.weight",
    ("norm2", "bias"): "norm2.bias",
    ("qkv", "kernel"): "attn.qkv.weight",
    ("qkv", "bias"): "attn.qkv.bias",
    ("proj", "kernel"): "attn.proj.weight",
    ("proj", "bias"): "attn.proj.bias",
    ("scale1",): "ls1.gamma",
    ("scale2",): "ls2.gamma",
}
MLPS = {False: ("fc1", "fc2"), True: ("w12", "w3")}
OUTSIDE = {
    ("cls_token",): "cls_token",
    ("pos_embed",): "pos_embed",
    ("register_tokens",): "register_tokens",
    ("patch_embed", "kernel"): "patch_embed.proj.weight",
    ("patch_embed", "bias"): "patch_embed.proj.bias",
    ("norm", "scale"): "norm.weight",
    ("norm", "bias"): "norm.bias",
}


def official(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Renames weights to facebookresearch's names, with query, key and value as one array."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in PARTS:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    for name in [n for n in renamed if ".attn.query." in n]:
        names = [name.replace("query", part) for part in ("query", "key", "value")]
        if len({renamed[n].shape if n in renamed else None for n in names}) == 1:
            joined = np.concatenate([np.asarray(renamed.pop(n)) for n in names])
            renamed[name.replace("query", "qkv")] = joined
    return renamed


def guess_config(state: Mapping[str, np.ndarray], heads: int | None, source: object) -> DinoConfig:
    """Reads the config off the shapes of official weights. If `heads` is not known, it is width / 64.

    Raises UsageError for weights of another network, naming the first one that shows it.
    """
    width, _, patch, _ = fit.shape_of(state, "patch_embed.proj.weight", 4, source)
    gated = "blocks.0.mlp.w3.weight" in state
    heads = heads or width // HEAD_WIDTH
    if not heads or width % heads:
        raise UsageError(f"{source} has tokens of width {width}, which {heads} attention heads do not divide")
    return DinoConfig(
        width=width,
        depth=len({m[1] for name in state if (m := re.match(r"blocks\.(\d+)\.", name))}),
        heads=heads,
        patch=patch,
        mlp_width=fit.shape_of(state, f"blocks.0.mlp.{MLPS[gated][1]}.weight", 2, source)[1],
        grid=max(1, math.isqrt(fit.shape_of(state, "pos_embed", 3, source)[1] - 1)),
        registers=fit.shape_of(state, "register_tokens", 3, source)[1] if "register_tokens" in state else 0,
        gated=gated,
    )


def _paths(config: DinoConfig) -> dict[tuple, str]:
    """Maps the path of each weight here to its official name, in which "{}" stands for the number of a block."""
    inner, outer = MLPS[config.gated]
    block = dict(BLOCK)
    for ours, theirs in (("fc1", inner), ("fc2", outer)):
        block |= {(ours, "kernel"): f"mlp.{theirs}.weight", (ours, "bias"): f"mlp.{theirs}.bias"}
    outside = {path: name for path, name in OUTSIDE.items() if config.registers or name != "register_tokens"}
    return outside | {("blocks", *path): "blocks.{}." + name for path, name in block.items()}


def to_params(state: Mapping[str, np.ndarray], config: DinoConfig, source: object) -> Params:
    """Turns official weights into float32 parameters. Raises UsageError for the first that do not fit or are NaN."""
    shapes, paths = traverse_util.flatten_dict(abstract_params(config)), _paths(config)
    wanted = {
        name.format(i): _their_shape(shapes[path].shape[1 if "{}" in name else 0 :], path, config.patch)
        for path, name in paths.items()
        for i in range(config.depth)
    }
    fit.check({name: value for name, value in state.items() if not name.startswith(UNUSED)}, wanted, source)
    flat = {}
    for path, name in paths.items():
        stacked = "{}" in name
        named = (name.format(i) for i in range(config.depth if stacked else 1))
        values = [_ours(fit.finite(np.asarray(state[n], np.float32), n, source), path) for n in named]
        flat[path] = np.stack(values) if stacked else values[0]
    return traverse_util.unflatten_dict(flat)


def _their_shape(shape: tuple[int, ...], path: tuple, patch: int) -> tuple[int, ...]:
    if path == ("patch_embed", "kernel"):
        return shape[1], shape[0] // patch**2, patch, patch
    if path[-1] == "kernel":
        return shape[::-1]
    return (1, *shape) if path[0] in ("cls_token", "pos_embed", "register_tokens") else shape


def _ours(value: np.ndarray, path: tuple) -> np.ndarray:
    if path == ("patch_embed", "kernel"):
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    if path[-1] == "kernel":
        return value.T
    return value[0] if path[0] in ("cls_token", "pos_embed", "register_tokens") else value


def find(path: epath.PathLike, anchors: Sequence[str]) -> tuple[Mapping[str, np.ndarray], dict | None, epath.Path]:
    """Finds the weights, the entries of config.json (None without one) and the file of a path or hub id.

    `anchors` are names of which the network has one. Raises UsageError if there is no such network.
    """
    file = hub.weights_file(hub.resolve(path, hub.FILES))
    return states.read(tensors.read(file), anchors, file).whole, hub.config(file.parent), file


def heads(stored: Mapping, source: object) -> int | None:
    """The number of attention heads in the entries of a config; None if they do not tell."""
    count = stored.get("num_attention_heads")
    if count is not None:
        rules.require(f"{source}: num_attention_heads of its config.json", count, rules.integer(1))
    return count


def read(path: epath.PathLike) -> tuple[DinoConfig, Params]:
    """Reads the config and the weights of a DINOv2. Raises UsageError for what is missing or does not fit."""
    state, stored, file = find(path, ANCHORS)
    state = official(state)
    config = guess_config(state, heads(stored or {}, file), file)
    return config, to_params(state, config, file)


def load(path: epath.PathLike, dtype: str = "float32", grid: int = GRID) -> Dino:
    """Reads facebookresearch's .pth, a folder in transformers' format, or a hub id; see `read`."""
    config, params = read(path)
    return Dino(config, params, dtype, grid)
