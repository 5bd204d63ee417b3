"""The autoencoder that keeps pixels as they are."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmgen_jax.frozen.autoencoders.patches import depth_to_space, space_to_depth
from mmgen_jax.frozen.autoencoders.protocol import Arrays, Deterministic, Options, ReadImages, clipped
from mmgen_jax.modalities.registry import MODALITIES

PIXEL_STD = 0.5  # typical standard deviation of images in [-1, 1], good enough for preconditioning


@functools.partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("modalities", "factor"))
@dataclass(frozen=True)
class Identity(Deterministic):
    """Rearranges pixels: the latent channels are the f*f*C numbers of an f x f patch."""

    name: ClassVar[str] = "identity"
    fitted: ClassVar[bool] = False
    depends_on: ClassVar[tuple[str, ...]] = ()
    modalities: tuple[str, ...]
    factor: int

    @classmethod
    def build(cls, options: Options, modalities: tuple[str, ...], read_images: ReadImages) -> Self:  # noqa: ARG003
        return cls(modalities, options.factor)

    @classmethod
    def rebuild(
        cls,
        spec: Mapping,
        modalities: tuple[str, ...],
        arrays: Mapping[str, np.ndarray],  # noqa: ARG003 it has none
    ) -> Self:
        return cls(modalities, spec["factor"])

    @classmethod
    def stand_in(cls, options: Options, modalities: tuple[str, ...]) -> Self:
        return cls(modalities, options.factor)

    @property
    def channels(self) -> dict[str, int]:
        return {m: self.factor**2 * MODALITIES[m].channels for m in self.modalities}

    @property
    def std(self) -> dict[str, np.ndarray]:
        return {m: np.full(k, PIXEL_STD, np.float32) for m, k in self.channels.items()}

    def arrays(self) -> dict[str, np.ndarray]:
        return {}

    def encode(self, images: Arrays, key: jax.Array | None = None) -> OrderedDict[str, Array]:
        del key  # there is no posterior to draw from
        return OrderedDict((m, space_to_depth(jnp.asarray(x), self.factor)) for m, x in images.items())

    def decode(self, latents: Arrays) -> OrderedDict[str, Array]:
        return OrderedDict((m, clipped(depth_to_space(jnp.asarray(x), self.factor))) for m, x in latents.items())
