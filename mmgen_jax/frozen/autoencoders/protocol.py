"""Autoencoders between images and latents: `identity` (pixels) and `patch_pca` (fixed, fitted once).

All are frozen dataclasses and JAX pytrees: their arrays are leaves, so that they are passed to compiled functions
as arguments and never become constants of a program. The Stable Diffusion one is in `autoencoder_kl.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import UsageError

PIXEL_STD = 0.5  # of images in [-1, 1], near enough for preconditioning

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


class _Deterministic:
    """Latents without a posterior: the standard deviation is zero and the sample is the mean."""

    def moments(self, images: Arrays) -> dict[str, Array]:
        return {m: jnp.concatenate([z, jnp.zeros_like(z)], -1) for m, z in self.encode(images).items()}

    def sample(self, moments: Arrays, key: jax.Array | None) -> dict[str, Array]:
        return {m: x[..., : x.shape[-1] // 2] for m, x in moments.items()}


@functools.partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("modalities", "factor"))
@dataclass(frozen=True)
class Identity(_Deterministic):
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
        return {m: space_to_depth(x, self.factor) for m, x in images.items()}

    def decode(self, latents: Arrays) -> dict[str, Array]:
        return {m: jnp.clip(depth_to_space(x, self.factor), -1, 1) for m, x in latents.items()}


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("mean", "basis", "scale", "sigma"), meta_fields=("factor",)
)
@dataclass(frozen=True)
class PatchPCA(_Deterministic):
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

    name: ClassVar[str] = "patch_pca"
    factor: int
    mean: Mapping[str, np.ndarray]
    basis: Mapping[str, np.ndarray]
    scale: Mapping[str, np.ndarray]
    sigma: Mapping[str, np.ndarray]

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(m for m in MODALITIES if m in self.basis)

    @property
    def channels(self) -> dict[str, int]:
        return {m: self.basis[m].shape[1] for m in self.modalities}

    @property
    def std(self) -> dict[str, np.ndarray]:
        return {m: self.sigma[m] / self.scale[m] for m in self.modalities}

    @property
    def spec(self) -> dict:
        return {"name": self.name, "factor": self.factor}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        parts = {"mean": self.mean, "basis": self.basis, "scale": self.scale, "sigma": self.sigma}
        return {f"{m}/{part}": np.asarray(value[m]) for part, value in parts.items() for m in self.modalities}

    def encode(self, images: Arrays, key: jax.Array | None = None) -> dict[str, Array]:
        centred = {m: space_to_depth(x, self.factor) - self.mean[m] for m, x in images.items()}
        return {m: _product(x, self.basis[m]) / self.scale[m] for m, x in centred.items()}

    def decode(self, latents: Arrays) -> dict[str, Array]:
        images = {
            m: depth_to_space(_product(z * self.scale[m], self.basis[m].T) + self.mean[m], self.factor)
            for m, z in latents.items()
        }
        return {m: jnp.clip(x, -1, 1) for m, x in images.items()}


def _product(x: Array, matrix: Array) -> Array:
    """In full float32 also where products are bfloat16 by default: latents are the ground truth of training."""
    return jnp.matmul(x, matrix, precision=jax.lax.Precision.HIGHEST)


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
