"""Converts weights between the official PyTorch release and this package, in both directions.

Official state dicts map names to arrays. Linear weights are [out, in] there and [in, out] here; blocks are separate
there and stacked here. Every name and shape is checked: a weight that is missing, unknown or misshapen is an error.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import ml_dtypes
import numpy as np
from flax import traverse_util

from mmgen_jax.frozen import abstract
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.models.layers import position_embedding
from mmgen_jax.models.mmdit import MMDiT, MMDiTConfig
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit

LINEARS = {
    ("time_embed", "inner"): "t_embedder.mlp.0",
    ("time_embed", "inner_out"): "t_embedder.mlp.2",
    ("time_embed", "fused"): "t_embedder.mlp_fused.0",
    ("time_embed", "fused_out"): "t_embedder.mlp_fused.2",
}
PROJECTOR = {
    ("projector", "fc1"): "projectors.0.0",
    ("projector", "fc2"): "projectors.0.2",
    ("projector", "fc3"): "projectors.0.4",
}
CLASSES = "y_embedder.embedding_table.weight"
TASKS = "taskcond_embedder.embedding_table.weight"
BLOCK = {"qkv": "attn.qkv", "proj": "attn.proj", "fc1": "mlp.fc1", "fc2": "mlp.fc2", "adaln": "adaLN_modulation.1"}
HEAD = {"linear": "linear", "adaln": "adaLN_modulation.1"}
PATCH = "x_embedder.proj"
POSITION = "pos_embed"
SOURCE = "the state dict"  # in messages
ANCHORS = (f"{PATCH}.weight", CLASSES)

shape_of = functools.partial(fit.shape_of, source=SOURCE)


class Weight(NamedTuple):
    """One official array and its place here: `layer` is its row in the stack of blocks, or None outside of it."""

    name: str
    path: tuple[str, ...]
    layer: int | None = None


def _linear(prefix: str, path: tuple[str, ...], layer: int | None = None) -> Iterator[Weight]:
    yield Weight(f"{prefix}.weight", (*path, "kernel"), layer)
    yield Weight(f"{prefix}.bias", (*path, "bias"), layer)


def weights(config: MMDiTConfig) -> Iterator[Weight]:
    """Yields all weights of a model in the official order, without the fixed position embedding, which comes first."""
    yield from _linear(PATCH, ("patch_embed",))
    for path, prefix in LINEARS.items():
        yield from _linear(prefix, path)
    yield Weight(CLASSES, ("class_embed", "embedding"))
    for i in range(config.depth):
        for ours, theirs in BLOCK.items():
            yield from _linear(f"blocks.{i}.{theirs}", ("blocks", ours), i)
    for path, prefix in (PROJECTOR if config.feature_width else {}).items():
        yield from _linear(prefix, path)
    yield Weight(TASKS, ("task_embed", "embedding"))
    for m, modality in enumerate(config.names):
        for ours, theirs in HEAD.items():
            yield from _linear(f"lis_final_layer.{m}.{theirs}", ("heads", modality, ours))


def _to_theirs(value: np.ndarray, weight: Weight, patch: int) -> np.ndarray:
    """Views an array in the official layout: linear [in, out] as [out, in], patch embedding as [out, C, p, p]."""
    if weight.path[-1] != "kernel":
        return value
    if weight.path[0] == "patch_embed":
        return value.reshape(patch, patch, -1, value.shape[-1]).transpose(3, 2, 0, 1)
    return value.T


def _to_ours(value: np.ndarray, weight: Weight) -> np.ndarray:
    """Views an official array in the layout of this package, the inverse of `_to_theirs`."""
    if weight.path[-1] != "kernel":
        return value
    if weight.path[0] == "patch_embed":
        return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
    return value.T


def abstract_params(config: MMDiTConfig) -> Params:
    """Shapes of the parameters of `MMDiT(config)`, without making them."""
    return abstract.params(MMDiT, config)


def _shape(weight: Weight, shapes: dict[tuple, tuple[int, ...]], patch: int) -> tuple[int, ...]:
    """The official shape of a weight, by the same transposition as that of its values."""
    ours = shapes[weight.path][0 if weight.layer is None else 1 :]
    return _to_theirs(np.broadcast_to(np.zeros((), np.int8), ours), weight, patch).shape


def check(state: Mapping[str, np.ndarray], config: MMDiTConfig) -> None:
    """Raises UsageError for the first weights that are unknown, missing, or not of the expected shape and type."""
    shapes = {path: leaf.shape for path, leaf in traverse_util.flatten_dict(abstract_params(config)).items()}
    wanted = {weight.name: _shape(weight, shapes, config.patch) for weight in weights(config)}
    position = {POSITION: state[POSITION].shape} if POSITION in state else {}  # see `check_position`
    fit.check(state, wanted | position, SOURCE)


def from_official(state: Mapping[str, np.ndarray], config: MMDiTConfig) -> Params:
    """Turns official weights into parameters of `MMDiT(config)`: a nested dict of float32 NumPy arrays for `nnx.merge`.

    Raises UsageError as `check` does, and as `check_position` does.
    """
    check_position(state, config.width)
    return to_params(state, config)


def to_params(state: Mapping[str, np.ndarray], config: MMDiTConfig) -> Params:
    """Does what `from_official` does for arrays without a position embedding, such as an optimizer's averages."""
    check(state, config)
    shapes = traverse_util.flatten_dict(abstract_params(config))
    flat = {path: np.empty(leaf.shape, np.float32) for path, leaf in shapes.items()}
    for weight in weights(config):
        target = flat[weight.path] if weight.layer is None else flat[weight.path][weight.layer]
        target[...] = _to_ours(state[weight.name], weight)
        fit.finite(target, weight.name, SOURCE)
    return traverse_util.unflatten_dict(flat)


def to_official(params: Params, config: MMDiTConfig, latent_size: int) -> dict[str, np.ndarray]:
    """Turns parameters into official weights in the official order, as views of the parameters.

    The position embedding is recomputed for latents of `latent_size` squared.
    """
    side = latent_size // config.patch
    return {POSITION: position_embedding(side, side, config.width)[None]} | from_params(params, config)


def from_params(params: Params, config: MMDiTConfig) -> dict[str, np.ndarray]:
    """Does what `to_official` does, without the position embedding; the inverse of `to_params`."""
    flat = {path: np.asarray(leaf) for path, leaf in traverse_util.flatten_dict(params).items()}
    state = {}
    for weight in weights(config):
        value = flat[weight.path] if weight.layer is None else flat[weight.path][weight.layer]
        state[weight.name] = _to_theirs(value, weight, config.patch)
    return state


def check_position(state: Mapping[str, np.ndarray], width: int) -> None:
    """Raises UsageError unless the stored position embedding is the one that this package computes."""
    if POSITION not in state:
        raise UsageError(f"{POSITION}: missing, must be an array of shape (1, tokens, {width})")
    stored = np.asarray(state[POSITION], np.float32)
    side = math.isqrt(stored.shape[1]) if stored.ndim == 3 else 0
    if stored.shape != (1, side * side, width):
        raise UsageError(f"{POSITION} has shape {stored.shape}: must be (1, square number of tokens, {width})")
    if not np.allclose(stored[0], position_embedding(side, side, width), atol=_rounding(stored)):
        raise UsageError(f"{POSITION}: differs from the fixed sin-cos embedding of a {side}x{side} grid")


def _rounding(stored: np.ndarray) -> float:
    """How far numbers of at most 1 may be off that were stored with as few digits as these: at least 1e-5."""
    with np.errstate(over="ignore"):
        for dtype in (ml_dtypes.bfloat16, np.float16):
            if np.array_equal(stored.astype(dtype).astype(stored.dtype), stored):
                return float(ml_dtypes.finfo(dtype).eps)
    return 1e-5


def latent_size_from_official(state: Mapping[str, np.ndarray]) -> int:
    """Height (= width) of the latents that an official model was built for."""
    return math.isqrt(state[POSITION].shape[1]) * state[f"{PATCH}.weight"].shape[-1]


def config_from_official(
    state: Mapping[str, np.ndarray], num_heads: int, names: tuple[str, ...] | None = None, encoder_depth: int = 8
) -> MMDiTConfig:
    """Reads the config of an official model off the shapes of its weights.

    Args:
      state: official name -> array.
      num_heads: number of attention heads, which no shape tells.
      names: modalities in the order of the final layers; by default the first rows of the table of modalities.
      encoder_depth: number of the block after which the projector reads, which no shape tells either. The official
        default is 8. It is at most the depth, and matters only if features are used.
    """

    def count(pattern: str) -> int:
        return len({m.group(1) for name in state if (m := re.match(pattern, name))})

    width, _, patch, _ = shape_of(state, f"{PATCH}.weight", 4)
    heads, depth = count(r"lis_final_layer\.(\d+)\."), count(r"blocks\.(\d+)\.")
    names = NAMES[:heads] if names is None else tuple(names)
    if len(names) != heads:
        raise UsageError(f"names={names}: must be {heads}, one per final layer")
    channels = [shape_of(state, f"lis_final_layer.{m}.linear.weight", 2)[0] // patch**2 for m in range(heads)]
    features, hidden = shape_of(state, "projectors.0.4.weight", 2) if "projectors.0.4.weight" in state else (0, 2048)
    return MMDiTConfig(
        modalities=tuple(zip(names, channels, strict=True)),
        depth=depth,
        width=width,
        heads=num_heads,
        patch=patch,
        num_classes=shape_of(state, CLASSES, 2)[0] - 1,
        mlp_ratio=shape_of(state, "blocks.0.mlp.fc1.weight", 2)[0] / width,
        encoder_depth=min(encoder_depth, depth),
        projector_width=hidden,
        feature_width=features,
    )
