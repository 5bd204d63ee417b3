"""Makes the architecture that settings ask for, and checks whether a stored architecture agrees with settings."""

from __future__ import annotations

import dataclasses

from etils import epath

from mmgen_jax.data import tiles
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError


def from_settings(chosen: Settings, autoencoder: Autoencoder, facts: Facts) -> Architecture:
    """Makes the architecture that the settings ask for, with the facts of the data set that a model remembers.

    Raises UsageError for sizes that do not fit together.
    """
    std = tuple(tuple(float(s) for s in autoencoder.std[m]) for m in chosen.data.modalities)
    network = {name: value for name, value in vars(chosen.model).items() if name != "precondition"}
    model = MMDiTConfig(
        modalities=tuple((m, autoencoder.channels[m]) for m in chosen.data.modalities),
        num_classes=len(facts.class_names),
        data_std=std if chosen.model.precondition else None,
        **network,
    )
    remembered = dataclasses.replace(facts, fov_degrees=None)  # a model makes images of any camera
    return Architecture(model, autoencoder, chosen.objective.path, chosen.data.image_size, remembered)


def check_latent_settings(chosen: Settings, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting of modalities or autoencoder that differs from a stored architecture.

    A stored model keeps its autoencoder, so without this check such a setting would have no effect.
    """
    pairs: dict[str, tuple[object, object]] = {"data.modalities": (chosen.data.modalities, found.modalities)}
    for name, stored in found.autoencoder.options.items():
        pairs[f"autoencoder.{name}"] = (getattr(chosen.autoencoder, name), stored)
    for key, (wanted, stored) in pairs.items():
        if wanted != stored:
            raise UsageError(f"config key {key} is {wanted!r}; the model in {where} has {stored!r}")


def check_classes(folder: epath.PathLike, found: Architecture, where: object) -> None:
    """Raises UsageError if a data set names other classes than a stored architecture, or in another order.

    The numbers of the classes of its scenes would mean others. A data set without classes fits every model.
    """
    names = tiles.class_names(folder)
    if names and names != found.facts.named(names).class_names:
        raise UsageError(f"data.dir {str(folder)!r} has the classes {names[:8]}; the model {str(where)!r} has others")


def check_config(chosen: Settings, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting that differs from a stored architecture, including the network's."""
    check_latent_settings(chosen, found, where)
    wanted = from_settings(chosen, found.autoencoder, found.facts)
    other = architectures.difference(wanted, found, f"the model in {where}")
    if other:
        raise UsageError(f"config key {other}")
