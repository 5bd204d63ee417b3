"""Reads weights of DINOv2 from files, with facebookresearch's names or those of the transformers library."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from etils import epath
from flax import traverse_util

from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.dino import GRID, Dino, DinoConfig, abstract_params
from mmgen_jax.system import reading
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit, hub, tensors

CONFIG_FILE = "config.json"
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
UNUSED = ("mask_token",)  # weights that only pretraining uses
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
        if all(n in renamed for n in names):
            joined = np.concatenate([np.asarray(renamed.pop(n)) for n in names])
            renamed[name.replace("query", "qkv")] = joined
    return renamed


def guess_config(state: Mapping[str, np.ndarray], heads: int | None) -> DinoConfig:
    """Reads the config off the shapes of official weights. If `heads` is not known, it is width / 64."""
    depth = 1 + max(int(m[1]) for name in state if (m := re.match(r"blocks\.(\d+)\.", name)))
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    gated = "blocks.0.mlp.w3.weight" in state
    return DinoConfig(
        width=width,
        depth=depth,
        heads=heads or width // HEAD_WIDTH,
        patch=patch,
        mlp_width=state[f"blocks.0.mlp.{MLPS[gated][1]}.weight"].shape[1],
        grid=round((state["pos_embed"].shape[1] - 1) ** 0.5),
        registers=state["register_tokens"].shape[1] if "register_tokens" in state else 0,
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
    """Turns official weights into float32 parameters. Raises UsageError for the first weights that do not fit."""
    shapes, paths = traverse_util.flatten_dict(abstract_params(config)), _paths(config)
    wanted = {
        name.format(i): _their_shape(shapes[path].shape[1 if "{}" in name else 0 :], path, config.patch)
        for path, name in paths.items()
        for i in range(config.depth)
    }
    fit.check({name: value for name, value in state.items() if name not in UNUSED}, wanted, source)
    flat = {}
    for path, name in paths.items():
        stacked = "{}" in name
        values = [_ours(state[name.format(i)], path) for i in range(config.depth if stacked else 1)]
        flat[path] = np.asarray(np.stack(values) if stacked else values[0], np.float32)
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


def find(path: epath.PathLike) -> tuple[Mapping[str, np.ndarray], dict, epath.Path]:
    """Finds the weights, config.json (or {}) and the file of a path or hub id. Raises UsageError if there are none."""
    found = hub.resolve(path, [CONFIG_FILE, *WEIGHTS_FILES])
    if found.is_dir():
        there = [found / name for name in WEIGHTS_FILES if (found / name).exists()]
        if not there:
            raise UsageError(f"{found} holds no weights; it needs {' or '.join(WEIGHTS_FILES)}")
        found = there[0]
    described = found.parent / CONFIG_FILE
    stored = reading.json_file(described) if described.exists() else {}
    return tensors.read(found), stored, found


def read(path: epath.PathLike) -> tuple[DinoConfig, Params]:
    """Reads the config and the weights of a DINOv2. Raises UsageError for what is missing or does not fit."""
    state, stored, file = find(path)
    state = official(state)
    try:
        config = guess_config(state, stored.get("num_attention_heads"))
    except (ValueError, KeyError) as error:
        raise UsageError(f"{file} holds no DINOv2: {error} is missing") from error
    return config, to_params(state, config, file)


def load(path: epath.PathLike, dtype: str = "float32", grid: int = GRID) -> Dino:
    """Reads facebookresearch's .pth, a folder in transformers' format, or a hub id; see `read`."""
    config, params = read(path)
    return Dino(config, params, dtype, grid)
