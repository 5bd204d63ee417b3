"""The architecture that settings ask for, and whether a stored one is that."""

from __future__ import annotations

import numpy as np

from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError


def from_settings(
    chosen: Settings,
    autoencoder: Autoencoder,
    class_names: tuple[str, ...],
    palette: np.ndarray,
    regions: tuple[str, ...],
) -> Architecture:
    """Settings and facts of the data set -> Architecture; raises UsageError for sizes that do not fit."""
    std = tuple(tuple(float(s) for s in autoencoder.std[m]) for m in chosen.data.modalities)
    network = {name: value for name, value in vars(chosen.model).items() if name != "precondition"}
    model = MMDiTConfig(
        modalities=tuple((m, autoencoder.channels[m]) for m in chosen.data.modalities),
        num_classes=len(class_names),
        data_std=std if chosen.model.precondition else None,
        **network,
    )
    return Architecture(
        model, autoencoder, chosen.objective.path, chosen.data.image_size, class_names, palette, regions
    )


def check_latent_settings(chosen: Settings, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting of the latents in which the settings and a stored architecture differ.

    An autoencoder once fitted is kept, so that these settings would otherwise have no effect.
    """
    facts = {"data.modalities": (chosen.data.modalities, found.modalities)}
    for name, stored in found.autoencoder.options.items():
        facts[f"autoencoder.{name}"] = (getattr(chosen.autoencoder, name), stored)
    for key, (wanted, stored) in facts.items():
        if wanted != stored:
            raise UsageError(f"config key {key} is {wanted!r}; the model in {where} has {stored!r}")


def check_config(chosen: Settings, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting of the model in which settings and a stored architecture differ."""
    check_latent_settings(chosen, found, where)
    facts = (found.autoencoder, found.class_names, found.palette, found.regions)
    other = architectures.difference(from_settings(chosen, *facts), found)
    if other:
        raise UsageError(f"config key {other.replace('the workdir', f'the model in {where}')}")
