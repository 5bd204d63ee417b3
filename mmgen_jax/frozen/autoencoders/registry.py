"""Stored autoencoders -> values: the one place that knows all kinds."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmgen_jax.frozen.autoencoders import identity, patch_pca
from mmgen_jax.frozen.autoencoders import kl as autoencoder_kl
from mmgen_jax.frozen.autoencoders import protocol as vae
from mmgen_jax.system.errors import choice

NAMES = ("identity", "patch_pca", "kl")


def rebuild(spec: Mapping, modalities: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> vae.Autoencoder:
    """The autoencoder whose `spec` and `arrays` these are; a "kl" without arrays encodes and decodes nothing.

    Raises UsageError for an unknown name and KeyError for what is missing.
    """
    name = choice("autoencoder.name", spec["name"], NAMES)
    if name == "kl":
        return autoencoder_kl.from_arrays(spec["config"], arrays, modalities)
    if name == "identity":
        return identity.Identity(modalities, spec["factor"])
    parts = ({m: arrays[f"{m}/{part}"] for m in modalities} for part in ("mean", "basis", "scale", "sigma"))
    return patch_pca.PatchPCA(spec["factor"], *parts)
