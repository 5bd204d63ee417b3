"""What every kind of autoencoder between images and latents must be able to do.

All are frozen dataclasses and JAX pytrees: their arrays are leaves, so that they are passed to compiled functions
as arguments and never become constants of a program. A new kind is a file with a class that follows `Autoencoder`, and
a row of `registry.KINDS`.
"""

from __future__ import annotations

import abc
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from mmgen_jax.system.arrays import AnyArray

Arrays = Mapping[str, AnyArray]  # one entry per modality


@jax.custom_jvp
def clipped(images: Array) -> Array:
    """Images clipped to [-1, 1]; gradients pass as if they were not, so that guidance leads back what is beyond."""
    return jnp.clip(images, -1, 1)


clipped.defjvps(lambda change, *_: change)

# Reads images [N, H, W, C] in [-1, 1] of each modality, spread over the data set, for an autoencoder to be fitted on.
ReadImages = Callable[[], Mapping[str, np.ndarray]]


@runtime_checkable
class Options(Protocol):
    """The values of the settings' section `autoencoder`; a kind reads those that concern it.

    Attributes:
      name: of the kind.
      factor: pixels per latent position, each way.
      components: latent channels of each modality, in the order of the modalities.
      whitening: 0 to 1, see `PatchPCA`.
      path: folder, file or hub id of pretrained weights; "" = none.
      dtype: of products, "float32" or "bfloat16".
      chunk: images that the network sees at once.
      width, blocks, channels: shapes of a network that is to be trained, see `ConvConfig`.
    """

    @property
    def name(self) -> str: ...

    @property
    def factor(self) -> int: ...

    @property
    def components(self) -> tuple[int, ...]: ...

    @property
    def whitening(self) -> float: ...

    @property
    def path(self) -> str: ...

    @property
    def dtype(self) -> str: ...

    @property
    def chunk(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def blocks(self) -> int: ...

    @property
    def channels(self) -> int: ...


@runtime_checkable
class Autoencoder(Protocol):
    """Images ``[B, H, W, C]`` in [-1, 1] <-> latents ``[B, H/f, W/f, K]``, both by modality.

    What comes out is an `OrderedDict`, whose order JAX keeps, in the order of what goes in or of `modalities`.

    Attributes:
      name: of the kind.
      fitted: whether it is fitted to the data set, so that its arrays have to be kept beside what it encoded.
      depends_on: options that decide what it encodes to, besides `name`, `dtype` and its weights.
      modalities: the entries it knows.
      factor: pixels per latent position, each way: f.
      channels: K of each modality.
      std: [K] of each modality, data standard deviation of each latent channel, for the preconditioned velocity.
      spec: what `model.json` holds of it: its name, factor and whatever `rebuild` needs besides the arrays.
      options: name -> value of those options that a stored autoencoder tells, and a config must agree with.
    """

    name: ClassVar[str]
    fitted: ClassVar[bool]
    depends_on: ClassVar[tuple[str, ...]]

    @property
    def modalities(self) -> tuple[str, ...]: ...

    @property
    def factor(self) -> int: ...

    @property
    def channels(self) -> dict[str, int]: ...

    @property
    def std(self) -> Mapping[str, AnyArray]: ...

    @property
    def spec(self) -> dict: ...

    @property
    def options(self) -> dict[str, object]: ...

    @classmethod
    def build(cls, options: Options, modalities: tuple[str, ...], read_images: ReadImages) -> Self:
        """The one that the options ask for, read from a file or fitted. Raises UsageError for what does not fit."""

    @classmethod
    def rebuild(cls, spec: Mapping, modalities: tuple[str, ...], arrays: Mapping[str, np.ndarray]) -> Self:
        """The one whose `spec` and `arrays` these are; the arrays may be of more modalities. KeyError if some lack."""

    @classmethod
    def stand_in(cls, options: Options, modalities: tuple[str, ...]) -> Self:
        """One of the same shapes with random weights; reads nothing. Raises UsageError for shapes it cannot have."""

    def configured(self, options: Options) -> Self:
        """This stored one, computing as the options say: their `dtype` and `chunk`, where the kind has any."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What has to be stored with the model, by name; `rebuild` takes it again. Empty if there is nothing."""

    def moments(self, images: Arrays) -> OrderedDict[str, Array]:
        """Images -> mean and standard deviation of the posterior, ``[B, H/f, W/f, 2K]``, mean first; as stored."""

    def sample(self, moments: Arrays, key: jax.Array | None) -> OrderedDict[str, Array]:
        """Moments -> latents as the network sees them; their means where `key` is None."""

    def encode(self, images: Arrays, key: jax.Array | None = None) -> OrderedDict[str, Array]:
        """Images -> latents: `sample` of `moments`."""

    def decode(self, latents: Arrays) -> OrderedDict[str, Array]:
        """Latents -> images, clipped to [-1, 1]."""


class Deterministic(abc.ABC):
    """Latents without a posterior: the standard deviation is zero and the sample is the mean."""

    name: ClassVar[str]
    factor: int

    @abc.abstractmethod
    def encode(self, images: Arrays, key: jax.Array | None = None) -> OrderedDict[str, Array]:
        """See `Autoencoder.encode`."""

    @property
    def spec(self) -> dict:
        return {"name": self.name, "factor": self.factor}

    @property
    def options(self) -> dict[str, object]:
        return {"name": self.name, "factor": self.factor}

    def configured(self, options: Options) -> Self:  # noqa: ARG002 nothing to choose: all is float32, all at once
        return self

    def moments(self, images: Arrays) -> OrderedDict[str, Array]:
        return OrderedDict((m, jnp.concatenate([z, jnp.zeros_like(z)], -1)) for m, z in self.encode(images).items())

    def sample(self, moments: Arrays, key: jax.Array | None) -> OrderedDict[str, Array]:
        del key  # the standard deviation is zero
        return OrderedDict((m, jnp.asarray(x)[..., : x.shape[-1] // 2]) for m, x in moments.items())
