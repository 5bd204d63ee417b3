"""Autoencoders between images and latents: `identity` (pixels) and `patch_pca` (fixed, fitted once).

An autoencoder maps a dict of arrays in [-1, 1] ``[B, H, W, C]`` to a dict of latents
``[B, H/f, W/f, K]`` and back, and knows `channels` (K of each modality) and `std` (data standard
deviation of each latent channel, for the preconditioned velocity).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmgen_jax.errors import UsageError, choice
from mmgen_jax.modalities import MODALITIES

PIXEL_STD = 0.5  # of images in [-1, 1], near enough for preconditioning


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


@dataclass(frozen=True)
class Identity:
    """Pixels, rearranged: latent channels are the f*f*C numbers of one f x f patch."""

    modalities: tuple[str, ...]
    factor: int

    @property
    def channels(self) -> dict[str, int]:
        return {m: self.factor**2 * MODALITIES[m].channels for m in self.modalities}

    @property
    def std(self) -> dict[str, np.ndarray]:
        return {m: np.full(k, PIXEL_STD, np.float32) for m, k in self.channels.items()}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What has to be stored with the model: nothing."""
        return {}

    def encode(self, images: Mapping[str, Array]) -> dict[str, Array]:
        return {m: space_to_depth(x, self.factor) for m, x in images.items()}

    def decode(self, latents: Mapping[str, Array]) -> dict[str, Array]:
        return {m: jnp.clip(depth_to_space(x, self.factor), -1, 1) for m, x in latents.items()}


@dataclass(frozen=True)
class PatchPCA:
    """Each f x f patch of a modality in its leading principal components.

    latent_k = ((patch - mean) . basis_k) / scale_k, with scale_k = sigma_k^whitening * c, sigma_k the
    standard deviation of component k: whitening 1 gives every channel unit variance, 0 keeps the
    distances of pixel space, and c makes the mean variance of a modality's latents 1.

    Attributes:
      factor: patch side f.
      mean: [f*f*C] of each modality.
      basis: [f*f*C, K] orthonormal columns of each modality.
      scale: [K] of each modality.
      sigma: [K] of each modality.
    """

    factor: int
    mean: Mapping[str, np.ndarray]
    basis: Mapping[str, np.ndarray]
    scale: Mapping[str, np.ndarray]
    sigma: Mapping[str, np.ndarray]

    @property
    def channels(self) -> dict[str, int]:
        return {m: basis.shape[1] for m, basis in self.basis.items()}

    @property
    def std(self) -> dict[str, np.ndarray]:
        return {m: self.sigma[m] / self.scale[m] for m in self.basis}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What has to be stored with the model, flat."""
        parts = {"mean": self.mean, "basis": self.basis, "scale": self.scale, "sigma": self.sigma}
        return {f"{m}/{part}": np.asarray(value[m]) for part, value in parts.items() for m in self.basis}

    def encode(self, images: Mapping[str, Array]) -> dict[str, Array]:
        return {
            m: ((space_to_depth(x, self.factor) - self.mean[m]) @ self.basis[m]) / self.scale[m]
            for m, x in images.items()
        }

    def decode(self, latents: Mapping[str, Array]) -> dict[str, Array]:
        images = {
            m: depth_to_space((z * self.scale[m]) @ self.basis[m].T + self.mean[m], self.factor)
            for m, z in latents.items()
        }
        return {m: jnp.clip(x, -1, 1) for m, x in images.items()}


Autoencoder = Identity | PatchPCA


def fit_patch_pca(
    images: Mapping[str, np.ndarray], factor: int, components: Mapping[str, int], whitening: float
) -> PatchPCA:
    """Fits `PatchPCA` to arrays in [-1, 1] ``[N, H, W, C]`` of each modality; deterministic.

    Raises UsageError if a modality has no images, or more components are asked for than a patch has numbers.
    """
    mean, basis, scale, sigma = {}, {}, {}, {}
    for m, x in images.items():
        if not len(x):
            raise UsageError(f"no tile has {m} to fit the autoencoder on; data.modalities must name what is there")
        patches = np.asarray(space_to_depth(np.asarray(x, np.float32), factor))
        patches = patches.reshape(-1, patches.shape[-1]).astype(np.float64)
        count = components[m]
        if not 1 <= count <= patches.shape[1]:
            raise UsageError(f"autoencoder.components.{m} is {count}; allowed: 1 to {patches.shape[1]}")
        mean[m] = patches.mean(0).astype(np.float32)
        values, vectors = np.linalg.eigh(np.cov(patches, rowvar=False))
        values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(0), np.arange(count)])
        sigma[m] = np.sqrt(np.maximum(values, 1e-12)).astype(np.float32)
        raw = sigma[m] ** whitening
        scale[m] = (raw * np.sqrt(np.mean((sigma[m] / raw) ** 2))).astype(np.float32)
        basis[m] = vectors.astype(np.float32)
    return PatchPCA(factor, mean, basis, scale, sigma)


def from_arrays(name: str, modalities: tuple[str, ...], factor: int, arrays: Mapping[str, np.ndarray]) -> Autoencoder:
    """Rebuilds an autoencoder from its name and what its `arrays` returned."""
    choice("autoencoder.name", name, ("identity", "patch_pca"))
    if name == "identity":
        return Identity(modalities, factor)
    parts = ({m: arrays[f"{m}/{part}"] for m in modalities} for part in ("mean", "basis", "scale", "sigma"))
    return PatchPCA(factor, *parts)
