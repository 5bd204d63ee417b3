"""Makes the architecture that settings ask for, and checks whether a stored architecture agrees with settings."""

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
    depth_range: tuple[float, float] | None = None,
) -> Architecture:
    """Makes the architecture that the settings ask for, with the names, colours and depths of the data set.

    Raises UsageError for sizes that do not fit together.
    """
    std = tuple(tuple(float(s) for s in autoencoder.std[m]) for m in chosen.data.modalities)
    network = {name: value for name, value in vars(chosen.model).items() if name != "precondition"}
    model = MMDiTConfig(
        modalities=tuple((m, autoencoder.channels[m]) for m in chosen.data.modalities),
        num_classes=len(class_names),
        data_std=std if chosen.model.precondition else None,
        **network,
    )
    facts = class_names, palette, regions, depth_range
    return Architecture(model, autoencoder, chosen.objective.path, chosen.data.image_size, *facts)


def check_latent_settings(chosen: Settings, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting of modalities or autoencoder that differs from a stored architecture.

    A stored model keeps its autoencoder, so without this check such a setting would have no effect.
    """
    facts: dict[str, tuple[object, object]] = {"data.modalities": (chosen.data.modalities, found.modalities)}
    for name, stored in found.autoencoder.options.items():
        facts[f"autoencoder.{name}"] = (getattr(chosen.autoencoder, name), stored)
    for key, (wanted, stored) in facts.items():
        if wanted != stored:
            raise UsageError(f"config key {key} is {wanted!r}; the model in {where} has {stored!r}")


def check_config(chosen: Settings, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting that differs from a stored architecture, including the network's."""
    check_latent_settings(chosen, found, where)
    facts = (found.autoencoder, found.class_names, found.palette, found.regions)
    other = architectures.difference(from_settings(chosen, *facts), found, f"the model in {where}")
    if other:
        raise UsageError(f"config key {other}")
