"""Turns a batch, as the pipeline reads it, into clean latents and the features that tokens are aligned with.

This runs inside the train step. The classes hold the frozen networks and are pytrees, so the step takes them as
arguments and their weights do not become constants of the compiled program.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.frozen.dino import Dino
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.system.arrays import AnyArray

Batch = Mapping[str, AnyArray]


@functools.partial(jax.tree_util.register_dataclass, data_fields=("autoencoder", "dino"), meta_fields=())
@dataclass(frozen=True)
class TileInputs:
    """Inputs from batches of pixels.

    Attributes:
      autoencoder: encodes the pixels to latents.
      dino: computes the features of rgb in every step; None if there are no features.
    """

    autoencoder: Autoencoder
    dino: Dino | None = None

    def latents(self, batch: Batch, key: jax.Array) -> Latents:
        """Clean latents ``[B, h, w, K]`` of each modality."""
        return self.autoencoder.encode({m: to_array(jnp.asarray(batch[m])) for m in self.autoencoder.modalities}, key)

    def features(self, batch: Batch) -> Array | None:
        """Features ``[B, N, D]`` of rgb, or None."""
        return self.dino(to_array(jnp.asarray(batch["rgb"]))) if self.dino else None


@functools.partial(jax.tree_util.register_dataclass, data_fields=("autoencoder", "dino"), meta_fields=())
@dataclass(frozen=True)
class LatentInputs:
    """Inputs from batches of stored moments (mean and log-variance of the posterior); features may be stored too.

    Attributes:
      autoencoder: samples latents from the moments.
      dino: computes features of the stored rgb pixels in every step; None if features are stored, or not used.
    """

    autoencoder: Autoencoder
    dino: Dino | None = None

    def latents(self, batch: Batch, key: jax.Array) -> Latents:
        """Clean latents ``[B, h, w, K]`` of each modality, float32."""
        moments = {m: jnp.asarray(batch[m], "float32") for m in self.autoencoder.modalities}
        return self.autoencoder.sample(moments, key)

    def features(self, batch: Batch) -> AnyArray | None:
        """Features ``[B, N, D]`` of rgb, or None."""
        return self.dino(to_array(jnp.asarray(batch["rgb_pixels"]))) if self.dino else batch.get("features")


Inputs = TileInputs | LatentInputs
