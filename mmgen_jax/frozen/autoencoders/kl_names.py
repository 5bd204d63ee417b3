"""The names that diffusers gives to the weights of its autoencoder, and the config beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from mmgen_jax.frozen import abstract, torch_names
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders.kl_layers import KLConfig, KLNetwork
from mmgen_jax.system.errors import UsageError

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
    return abstract.params(KLNetwork, config, "float32")


def from_names(state: Mapping[str, np.ndarray], config: KLConfig, source: object) -> Params:
    """Turns diffusers' arrays, of new or old names, into weights. Raises UsageError for the first that do not fit."""
    renamed = {}
    for name, value in state.items():
        if ".attentions." in name and value.ndim == 4:
            value = value[:, :, 0, 0]  # older files have 1 x 1 convolutions in the attention
        renamed[_OLD.sub(lambda match: OLD_NAMES[match[1]], name)] = value
    return torch_names.from_torch(renamed, abstract_params(config), source)


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
