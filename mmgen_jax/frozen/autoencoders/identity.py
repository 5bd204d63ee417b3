"""The autoencoder that keeps pixels as they are."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmgen_jax.frozen.autoencoders.protocol import Arrays, Deterministic, depth_to_space, space_to_depth
from mmgen_jax.modalities.registry import MODALITIES

PIXEL_STD = 0.5  # of images in [-1, 1], near enough for preconditioning


@functools.partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("modalities", "factor"))
@dataclass(frozen=True)
class Identity(Deterministic):
    """Pixels, rearranged: latent channels are the f*f*C numbers of one f x f patch."""

    name: ClassVar[str] = "identity"
    modalities: tuple[str, ...]
    factor: int

    @property
    def channels(self) -> dict[str, int]:
        return {m: self.factor**2 * MODALITIES[m].channels for m in self.modalities}

    @property
    def std(self) -> dict[str, np.ndarray]:
        return {m: np.full(k, PIXEL_STD, np.float32) for m, k in self.channels.items()}

    @property
    def spec(self) -> dict:
        return {"name": self.name, "factor": self.factor}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {}

    def encode(self, images: Arrays, key: jax.Array | None = None) -> dict[str, Array]:
        del key  # there is no posterior to draw from
        return {m: space_to_depth(x, self.factor) for m, x in images.items()}

    def decode(self, latents: Arrays) -> dict[str, Array]:
        return {m: jnp.clip(depth_to_space(x, self.factor), -1, 1) for m, x in latents.items()}
