"""Batches as they are read -> clean latents and features to align with; runs inside the train step.

These values hold the frozen networks and are pytrees: the train step takes them as arguments.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
from jaxtyping import Array

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.frozen.dino import Dino
from mmgen_jax.modalities.pixels import to_array

Batch = Mapping[str, Array]


@functools.partial(jax.tree_util.register_dataclass, data_fields=("autoencoder", "dino"), meta_fields=())
@dataclass(frozen=True)
class TileInputs:
    """From batches of pixels.

    Attributes:
      autoencoder: pixels -> latents.
      dino: rgb -> features, computed in every step; None: no features.
    """

    autoencoder: Autoencoder
    dino: Dino | None = None

    def latents(self, batch: Batch, key: jax.Array) -> Latents:
        """Clean latents ``[B, h, w, K]`` of each modality."""
        return self.autoencoder.encode({m: to_array(batch[m]) for m in self.autoencoder.modalities}, key)

    def features(self, batch: Batch) -> Array | None:
        """Features ``[B, N, D]`` of rgb, or None."""
        return self.dino(to_array(batch["rgb"])) if self.dino else None


@functools.partial(jax.tree_util.register_dataclass, data_fields=("autoencoder", "dino"), meta_fields=())
@dataclass(frozen=True)
class LatentInputs:
    """From batches of stored moments, where the features may be stored too.

    Attributes:
      autoencoder: moments -> latents.
      dino: stored rgb pixels -> features, computed in every step; None: stored features, or none.
    """

    autoencoder: Autoencoder
    dino: Dino | None = None

    def latents(self, batch: Batch, key: jax.Array) -> Latents:
        """Clean latents ``[B, h, w, K]`` of each modality, float32."""
        moments = {m: batch[m].astype("float32") for m in self.autoencoder.modalities}
        return self.autoencoder.sample(moments, key)

    def features(self, batch: Batch) -> Array | None:
        """Features ``[B, N, D]`` of rgb, or None."""
        return self.dino(to_array(batch["rgb_pixels"])) if self.dino else batch.get("features")


Inputs = TileInputs | LatentInputs
