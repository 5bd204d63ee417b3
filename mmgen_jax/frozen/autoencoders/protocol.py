"""Autoencoders between images and latents: `identity` (pixels) and `patch_pca` (fixed, fitted once).

All are frozen dataclasses and JAX pytrees: their arrays are leaves, so that they are passed to compiled functions
as arguments and never become constants of a program. The Stable Diffusion one is in `autoencoder_kl.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Arrays = Mapping[str, Array]  # one entry per modality


class Autoencoder(Protocol):
    """Images ``[B, H, W, C]`` in [-1, 1] <-> latents ``[B, H/f, W/f, K]``, both dicts by modality.

    Attributes:
      modalities: the entries it knows.
      factor: pixels per latent position, each way: f.
      channels: K of each modality.
      std: [K] of each modality, data standard deviation of each latent channel, for the preconditioned velocity.
      spec: what `model.json` holds of it: its name, factor and whatever `rebuild` needs besides the arrays.
      arrays: flat, what has to be stored with the model.
    """

    modalities: tuple[str, ...]
    factor: int
    channels: dict[str, int]
    std: dict[str, np.ndarray]
    spec: dict
    arrays: dict[str, np.ndarray]

    def moments(self, images: Arrays) -> dict[str, Array]:
        """Images -> mean and standard deviation of the posterior, ``[B, H/f, W/f, 2K]``, mean first; as stored."""

    def sample(self, moments: Arrays, key: jax.Array | None) -> dict[str, Array]:
        """Moments -> latents as the network sees them; their means where `key` is None."""

    def encode(self, images: Arrays, key: jax.Array | None = None) -> dict[str, Array]:
        """Images -> latents: `sample` of `moments`."""

    def decode(self, latents: Arrays) -> dict[str, Array]:
        """Latents -> images, clipped to [-1, 1]."""


def space_to_depth(x: Float[Array, "B H W C"], factor: int) -> Float[Array, "B h w K"]:
    """[B, H, W, C] -> [B, H/f, W/f, f*f*C]."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // factor, factor, w // factor, factor, c)
    return x.swapaxes(2, 3).reshape(b, h // factor, w // factor, factor * factor * c)


def depth_to_space(x: Float[Array, "B h w K"], factor: int) -> Float[Array, "B H W C"]:
    """Inverse of `space_to_depth`."""
    b, h, w, k = x.shape
    x = x.reshape(b, h, w, factor, factor, k // factor**2).swapaxes(2, 3)
    return x.reshape(b, h * factor, w * factor, k // factor**2)


class Deterministic:
    """Latents without a posterior: the standard deviation is zero and the sample is the mean."""

    def moments(self, images: Arrays) -> dict[str, Array]:
        return {m: jnp.concatenate([z, jnp.zeros_like(z)], -1) for m, z in self.encode(images).items()}

    def sample(self, moments: Arrays, key: jax.Array | None) -> dict[str, Array]:
        del key  # the standard deviation is zero
        return {m: x[..., : x.shape[-1] // 2] for m, x in moments.items()}
