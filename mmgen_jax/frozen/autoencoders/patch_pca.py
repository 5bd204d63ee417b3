"""Principal components of patches: an autoencoder that is fitted in seconds."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmgen_jax.frozen.autoencoders.patches import depth_to_space, space_to_depth
from mmgen_jax.frozen.autoencoders.protocol import Arrays, Deterministic, Options, ReadImages, clipped
from mmgen_jax.frozen.autoencoders.whitening import deviations
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("mean", "basis", "scale", "sigma"), meta_fields=("factor",)
)
@dataclass(frozen=True)
class PatchPCA(Deterministic):
    """Represents each f x f patch of a modality by its leading principal components.

    latent_k = ((patch - mean) . basis_k) / scale_k, where scale_k brings the standard deviation sigma_k of component k
    to that of `whitening.deviations`.

    Attributes:
      factor: patch side f.
      mean: [f*f*C] of each modality.
      basis: [f*f*C, K] orthonormal columns of each modality.
      scale: [K] of each modality.
      sigma: [K] of each modality.
    """

    name: ClassVar[str] = "patch_pca"
    fitted: ClassVar[bool] = True
    depends_on: ClassVar[tuple[str, ...]] = ("factor", "components", "whitening")
    factor: int
    mean: Arrays
    basis: Arrays
    scale: Arrays
    sigma: Arrays

    @classmethod
    def build(cls, options: Options, modalities: tuple[str, ...], read_images: ReadImages) -> PatchPCA:
        components = dict(zip(modalities, options.components, strict=True))
        return fit_patch_pca(read_images(), options.factor, components, options.whitening)

    @classmethod
    def rebuild(cls, spec: Mapping, modalities: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> PatchPCA:
        # Latents of more modalities than a model has were made by an autoencoder that knows them too.
        others = set(MODALITIES) - set(modalities)
        arrays = {name: array for name, array in arrays.items() if name.partition("/")[0] not in others}
        wanted: dict[str, tuple[int, ...]] = {}
        for m in modalities:
            numbers, components = spec["factor"] ** 2 * MODALITIES[m].channels, arrays[f"{m}/scale"].size
            wanted |= {f"{m}/mean": (numbers,), f"{m}/basis": (numbers, components)}
            wanted |= {f"{m}/scale": (components,), f"{m}/sigma": (components,)}
        fit.check(arrays, wanted, "autoencoder")
        for name in wanted:
            if name.endswith(("/scale", "/sigma")) and not (arrays[name] > 0).all():
                raise UsageError(f"{name} of the autoencoder has values that are not above 0")
        parts = ({m: arrays[f"{m}/{part}"] for m in modalities} for part in ("mean", "basis", "scale", "sigma"))
        return cls(spec["factor"], *parts)

    @classmethod
    def stand_in(cls, options: Options, modalities: tuple[str, ...]) -> PatchPCA:
        rng, side = np.random.default_rng(0), 4 * options.factor
        shapes = {m: (64, side, side, MODALITIES[m].channels) for m in modalities}
        images = {m: rng.uniform(-1, 1, shape).astype(np.float32) for m, shape in shapes.items()}
        return cls.build(options, modalities, lambda: images)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(m for m in MODALITIES if m in self.basis)

    @property
    def channels(self) -> dict[str, int]:
        return {m: self.basis[m].shape[1] for m in self.modalities}

    @property
    def std(self) -> Arrays:
        return {m: self.sigma[m] / self.scale[m] for m in self.modalities}

    @property
    def options(self) -> dict[str, object]:
        return super().options | {"components": tuple(self.channels.values())}

    def arrays(self) -> dict[str, np.ndarray]:
        parts = {"mean": self.mean, "basis": self.basis, "scale": self.scale, "sigma": self.sigma}
        return {f"{m}/{part}": np.asarray(value[m]) for part, value in parts.items() for m in self.modalities}

    def encode(self, images: Arrays, key: jax.Array | None = None) -> OrderedDict[str, Array]:
        del key  # there is no posterior to draw from
        centred = {m: space_to_depth(jnp.asarray(x), self.factor) - self.mean[m] for m, x in images.items()}
        return OrderedDict((m, _product(x, self.basis[m]) / self.scale[m]) for m, x in centred.items())

    def decode(self, latents: Arrays) -> OrderedDict[str, Array]:
        images = {
            m: depth_to_space(_product(z * self.scale[m], self.basis[m].T) + self.mean[m], self.factor)
            for m, z in latents.items()
        }
        return OrderedDict((m, clipped(x)) for m, x in images.items())


def _product(x: AnyArray, matrix: AnyArray) -> Array:
    """Multiplies in full float32, also on devices whose default is bfloat16, as latents are the targets of training."""
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
        scale[m] = (sigma[m] / deviations(sigma[m], whitening)).astype(np.float32)
        basis[m] = vectors.astype(np.float32)
    return PatchPCA(factor, mean, basis, scale, sigma)
