"""The names that diffusers and CompVis give to the weights of the autoencoder, and the config beside them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from mmgen_jax.frozen import abstract, torch_names
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders.kl_layers import DOWN, UP, KLConfig, KLNetwork
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit, hub, tensors
from mmgen_jax.tensor_files.states import Network

ANCHORS = ("encoder.conv_in.weight",)  # in the names of both
CONTAINER = "first_stage_model."  # precedes the autoencoder's names in a whole Stable Diffusion
# What weights begin with that only training uses: those of the losses, and of the features that VA-VAE aligns with.
TRAINING = ("loss.", "model_ema.", "foundation_model.", "linear_proj.")

ONLY: dict[str, list] = {  # entry of a config -> the values that this network supports
    "_class_name": ["AutoencoderKL"],
    "act_fn": ["silu"],
    "down_block_types": list(DOWN),
    "up_block_types": list(UP),
}
STATISTICS = "latents_stats.pt"  # beside the weights of VA-VAE
SD, SDXL = KLConfig().scaling_factor, 0.13025  # Stable Diffusion's of versions 1 and 2, and XL's
SCALES = (  # (pattern of the names of released files, scaling factor)
    (r"sd_?xl|xl_?vae", SDXL),
    (r"vae_ft_(mse|ema)|kl_f8|^sd_?v?[12]_|^v[12]_\d_", SD),
)
KNOWN = {  # channels of latents -> what may be meant
    4: f"{SD} for Stable Diffusion 1 and 2, {SDXL} for SDXL",
    16: "1.5305, and shift_factor 0.0609, for Stable Diffusion 3, 0.3611 and 0.1159 for FLUX.1",
    32: "1, with the latents_mean and latents_std of its release, for VA-VAE",
}

# Names of the attention before diffusers 0.18, and now.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

_OLD = re.compile(r"(?<=attentions\.\d\.)(" + "|".join(OLD_NAMES) + r")(?=\.)")


COMPVIS = (  # CompVis' name -> diffusers', part by part
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.down\.(\d+)\.", r".down_blocks.\1."),
    (r"\.block\.(\d+)\.", r".resnets.\1."),
    (r"\.(down|up)sample\.", r".\1samplers.0."),
    (r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(\.attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)
_UP = re.compile(r"^decoder\.up\.(\d+)\.")


def _from_compvis(name: str, levels: int) -> str:
    """diffusers' name of what CompVis' code calls `name`; it counts the levels of the decoder from the other end."""
    name = _UP.sub(lambda m: f"decoder.up_blocks.{levels - 1 - int(m[1])}.", name)
    for pattern, replacement in COMPVIS:
        name = re.sub(pattern, replacement, name)
    return name


def diffusers_names(found: Network) -> dict[str, np.ndarray]:
    """The weights of the autoencoder alone, by diffusers' names of today."""
    state = found.weights if found.prefix.endswith(CONTAINER) else found.whole
    levels = len({m[1] for name in state if (m := re.match(r"decoder\.up\.(\d+)\.", name))})
    renamed = {}
    for name in state:
        if name.startswith(TRAINING):
            continue
        new, value = _OLD.sub(lambda match: OLD_NAMES[match[1]], _from_compvis(name, levels)), state[name]
        if ".attentions." in new and value.ndim == 4:
            value = value[:, :, 0, 0]  # older files have 1 x 1 convolutions in the attention
        renamed[new] = value
    return renamed


def abstract_params(config: KLConfig) -> Params:
    """Shapes of the weights."""
    return abstract.params(KLNetwork, config, "float32")


def from_names(state: Mapping[str, np.ndarray], config: KLConfig, source: object) -> Params:
    """Turns arrays by diffusers' names into weights. Raises UsageError for the first that do not fit."""
    return torch_names.from_torch(state, abstract_params(config), source)


def parse_config(stored: Mapping[str, Any], source: object) -> KLConfig:
    """Reads the entries of a diffusers `config.json`; those that it lacks are the defaults of `KLConfig`.

    Raises UsageError for a network that is not supported, and for a value that cannot be.
    """
    for key, allowed in ONLY.items():
        value = stored.get(key, allowed[0])
        if not all(entry in allowed for entry in (value if isinstance(value, list) else [value])):
            raise UsageError(f"{source}: {key} is {value!r}; allowed: {', '.join(map(str, allowed))}")
    values: dict[str, Any] = {f.name: stored[f.name] for f in dataclasses.fields(KLConfig) if f.name in stored}
    values |= {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    values |= {key: () for key in ("latents_mean", "latents_std") if stored.get(key) is None}
    values |= {key: () for key in ("down_block_types", "up_block_types") if set(values.get(key, ())) <= {ONLY[key][0]}}
    try:
        return KLConfig(**values)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def from_shapes(state: Mapping[str, np.ndarray], source: object) -> dict[str, Any]:
    """The entries of a config that the shapes of weights tell. Raises UsageError for weights of another network."""
    levels = {int(m[1]) for name in state if (m := re.match(r"encoder\.down_blocks\.(\d+)\.", name))}
    layers = {int(m[1]) for name in state if (m := re.match(r"encoder\.down_blocks\.0\.resnets\.(\d+)\.", name))}

    def side(name: str, axis: int) -> int:
        return fit.shape_of(state, name, 4, source)[axis]

    def attends(part: str, level: int) -> bool:
        return f"{part}.{level}.attentions.0.to_q.weight" in state

    return {
        "in_channels": side("encoder.conv_in.weight", 1),
        "out_channels": side("decoder.conv_out.weight", 0),
        "latent_channels": side("decoder.conv_in.weight", 1),
        "block_out_channels": [side(f"encoder.down_blocks.{i}.resnets.0.conv1.weight", 0) for i in sorted(levels)],
        "layers_per_block": len(layers),
        "down_block_types": [DOWN[attends("encoder.down_blocks", i)] for i in sorted(levels)],
        "up_block_types": [UP[attends("decoder.up_blocks", i)] for i in sorted(levels)],
        "use_quant_conv": "quant_conv.weight" in state,
        "use_post_quant_conv": "post_quant_conv.weight" in state,
        "mid_block_add_attention": any("mid_block.attentions" in name for name in state),
    }


def scale(channels: int, stored: Mapping | None, found: Network, file: epath.Path) -> float:
    """The scaling factor of an autoencoder whose config does not say it.

    Configs without it are older than it, and Stable Diffusion's; whole models tell by what lies beside the autoencoder,
    and single files by their names. Raises UsageError if nothing tells.
    """
    if channels == KLConfig().latent_channels:
        if stored is not None and "_class_name" in stored:
            return SD
        beside = {name.partition(".")[0] for name in found.whole}
        if found.prefix.endswith(CONTAINER) and beside & {"cond_stage_model", "conditioner"}:
            return SDXL if "conditioner" in beside else SD
        for pattern, factor in SCALES:
            if re.search(pattern, re.sub("[^a-z0-9]+", "_", file.name.lower())):
                return factor
    known = KNOWN.get(channels, "as its release says")
    raise UsageError(
        f"{file} has latents of {channels} channels, and nothing tells their scaling factor; write it to a "
        f'{hub.CONFIG} beside the file, {{"scaling_factor": NUMBER}}: {known}'
    )


def statistics(path: epath.Path) -> dict[str, list[float]]:
    """The entries latents_mean and latents_std of a file that has them as tensors mean and std, of any shape.

    Raises UsageError for a file without these.
    """
    stored: Any = tensors.read(path)
    try:
        return {f"latents_{name}": np.asarray(stored[name], np.float64).ravel().tolist() for name in ("mean", "std")}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not of statistics of latents; allowed: the tensors mean and std") from error
