"""The names that diffusers gives to the weights of its autoencoder, and the config beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx, traverse_util

from mmgen_jax.frozen.autoencoders.kl_layers import KLConfig, KLNetwork
from mmgen_jax.system.errors import UsageError

Params = dict  # nested dict of arrays


ONLY: dict[str, set] = {  # entry of a config -> the values that this network supports
    "act_fn": {"silu"},
    "down_block_types": {"DownEncoderBlock2D"},
    "up_block_types": {"UpDecoderBlock2D"},
    "latents_mean": {None},
    "latents_std": {None},
}


# Names of the attention before diffusers 0.18, and now.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


_OLD = re.compile(r"(?<=attentions\.0\.)(" + "|".join(OLD_NAMES) + r")(?=\.)")


def abstract_params(config: KLConfig) -> Params:
    """Shapes of the weights."""
    return nnx.to_pure_dict(nnx.split(nnx.eval_shape(lambda: KLNetwork(config, "float32", rngs=nnx.Rngs(0))))[1])


def _turned(value: np.ndarray, kind: str, back: bool) -> np.ndarray:
    """Transposes kernels from [out, in, h, w] or [out, in] to [h, w, in, out] or [in, out]; `back` reverses that."""
    if kind != "kernel":
        return value
    if value.ndim == 2:
        return value.T
    return value.transpose((3, 2, 0, 1) if back else (2, 3, 1, 0))


def _names(config: KLConfig) -> dict[str, tuple]:
    """Maps diffusers' name of each weight to its path here."""
    return {_name(path): path for path in traverse_util.flatten_dict(abstract_params(config))}


def _name(path: tuple) -> str:
    return ".".join(map(str, (*path[:-1], "bias" if path[-1] == "bias" else "weight")))


def to_names(params: Params) -> dict[str, np.ndarray]:
    """Turns weights into arrays with diffusers' names and layouts."""
    return {
        _name(path): np.ascontiguousarray(_turned(np.asarray(value), path[-1], back=True))
        for path, value in traverse_util.flatten_dict(params).items()
    }


def from_names(state: Mapping[str, np.ndarray], config: KLConfig, source: object) -> Params:
    """Turns diffusers' arrays, of new or old names, into weights. Raises UsageError for the first that does not fit."""
    state = {_OLD.sub(lambda match: OLD_NAMES[match[1]], name): value for name, value in state.items()}
    shapes, names = traverse_util.flatten_dict(abstract_params(config)), _names(config)
    for name in sorted(names.keys() ^ state.keys()):
        raise UsageError(f"{source}: weight {name} is {'missing' if name in names else 'not in the autoencoder'}")
    flat = {}
    for name, path in names.items():
        value = np.asarray(state[name], np.float32)
        if path[-1] == "kernel" and len(shapes[path].shape) == 2 and value.ndim == 4:
            value = value[:, :, 0, 0]  # older files have 1 x 1 convolutions in the attention
        value = _turned(value, path[-1], back=False) if value.ndim == len(shapes[path].shape) else value
        if value.shape != shapes[path].shape:
            raise UsageError(f"{source}: weight {name} has shape {value.shape}; must be {shapes[path].shape}")
        flat[path] = value
    return traverse_util.unflatten_dict(flat)


def parse_config(stored: Mapping, source: object) -> KLConfig:
    """Reads the entries of a diffusers `config.json`. Raises UsageError for a network that is not supported."""
    for key, allowed in ONLY.items():
        value = stored.get(key, next(iter(allowed)))
        found = set(value) if isinstance(value, list) else {value}
        if not found <= allowed:
            raise UsageError(f"{source}: {key} is {value!r}; allowed: {', '.join(map(str, allowed))}")
    fields: dict[str, Any] = {f.name: stored[f.name] for f in dataclasses.fields(KLConfig) if f.name in stored}
    return KLConfig(**(fields | {k: tuple(v) for k, v in fields.items() if isinstance(v, list)}))


def guess_config(state: Mapping[str, np.ndarray]) -> KLConfig:
    """Reads a config off the shapes of weights; values that they do not tell are Stable Diffusion's."""
    levels = {int(m[1]) for name in state if (m := re.match(r"encoder\.down_blocks\.(\d+)\.", name))}
    layers = {int(m[1]) for name in state if (m := re.match(r"encoder\.down_blocks\.0\.resnets\.(\d+)\.", name))}
    widths = [state[f"encoder.down_blocks.{i}.resnets.0.conv1.weight"].shape[0] for i in sorted(levels)]
    return KLConfig(
        in_channels=state["encoder.conv_in.weight"].shape[1],
        out_channels=state["decoder.conv_out.weight"].shape[0],
        latent_channels=state["decoder.conv_in.weight"].shape[1],
        block_out_channels=tuple(widths),
        layers_per_block=len(layers),
        use_quant_conv="quant_conv.weight" in state,
        use_post_quant_conv="post_quant_conv.weight" in state,
        mid_block_add_attention=any("mid_block.attentions" in name for name in state),
    )
