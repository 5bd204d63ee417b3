"""The kinds of autoencoders by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmgen_jax.frozen.autoencoders.conv import ConvAutoencoder
from mmgen_jax.frozen.autoencoders.identity import Identity
from mmgen_jax.frozen.autoencoders.kl import AutoencoderKL
from mmgen_jax.frozen.autoencoders.patch_pca import PatchPCA
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder, Options, ReadImages
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.system.rules import integer, require

KINDS: dict[str, type[Autoencoder]] = {kind.name: kind for kind in (Identity, PatchPCA, AutoencoderKL, ConvAutoencoder)}
NAMES = tuple(KINDS)


def build(options: Options, modalities: tuple[str, ...], read_images: ReadImages) -> Autoencoder:
    """The autoencoder that the settings ask for: read from a file, or fitted on what `read_images` returns.

    Raises UsageError for an unknown name, or for options, weights or images that do not fit.
    """
    return KINDS[_known(options.name)].build(options, modalities, read_images)


def rebuild(spec: Mapping, modalities: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> Autoencoder:
    """The autoencoder whose `spec` and `arrays` these are; a "kl" without arrays encodes and decodes nothing.

    Raises UsageError for an unknown name, a factor that is not a whole number or arrays that do not fit, and KeyError
    for what is missing.
    """
    kind = KINDS[_known(spec["name"])]
    require("autoencoder.factor", spec["factor"], integer(1))
    found = kind.rebuild(spec, modalities, arrays)
    if found.factor != spec["factor"]:
        raise UsageError(f"autoencoder.factor is {spec['factor']}; that of its config is {found.factor}")
    return found


def stand_in(options: Options, modalities: tuple[str, ...]) -> Autoencoder:
    """One of the kind and shapes that the settings ask for, with random weights; reads nothing.

    Raises UsageError for an unknown name, or for shapes that the kind cannot have.
    """
    return KINDS[_known(options.name)].stand_in(options, modalities)


def _known(name: str) -> str:
    return choice("autoencoder.name", name, KINDS)
