"""Networks that generated images are compared by: the Inception-v3 of published figures, or the small classifier."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath
from scipy import special

from mmgen_jax.frozen import inception, inception_files
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.metrics import classifier

_BUNDLED = f"bundled classifier {classifier.BUNDLED.name}; not to be compared with published figures"


class Seen(NamedTuple):
    """What a network makes of images.

    Attributes:
      features: float32 [N, D].
      probabilities: of the network's classes, float32 [N, K].
      spatial: features that know places, float32 [N, S]; None for a network that has none.
    """

    features: np.ndarray
    probabilities: np.ndarray
    spatial: np.ndarray | None


@runtime_checkable
class Judge(Protocol):
    """A network with all that belongs to its figures: its name and how images are resized for it, in words."""

    @property
    def network(self) -> str: ...

    @property
    def resizing(self) -> str: ...

    @property
    def width(self) -> int:
        """Number of features."""
        ...

    @property
    def digest(self) -> str:
        """Tells its weights from others; its file may have the name of others."""
        ...

    def __call__(self, rgb: np.ndarray) -> Seen:
        """What it makes of rgb uint8 [N, H, W, 3]."""
        ...


@dataclass(frozen=True)
class Published:
    """The FID Inception-v3 of 2015 with weights from a file."""

    weights: inception.Inception
    network: str
    width: int = inception.WIDTH

    @property
    def resizing(self) -> str:
        return inception.PROTOCOLS[self.weights.protocol].told

    @functools.cached_property
    def digest(self) -> str:
        return _digest(self.weights.params)

    def __call__(self, rgb: np.ndarray) -> Seen:
        features, spatial, logits = self.weights(rgb)
        return Seen(features, special.softmax(logits, 1), spatial)


@dataclass(frozen=True)
class Small:
    """A classifier of rendered scenes. Its figures compare models on a laptop with each other, with nothing else."""

    weights: classifier.Classifier
    network: str
    width: int = classifier.FEATURES

    @property
    def resizing(self) -> str:
        return f"linear with antialiasing to {self.weights.size} x {self.weights.size}"

    @functools.cached_property
    def digest(self) -> str:
        return _digest(self.weights.params)

    def __call__(self, rgb: np.ndarray) -> Seen:
        probabilities, features = self.weights.judge(rgb)
        return Seen(features, probabilities, None)


def _digest(params: Params) -> str:
    """SHA-256 of the names, types, shapes and numbers of weights."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        value = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}\n".encode())
        total.update(value.data)
    return total.hexdigest()


def load(path: epath.PathLike = "", protocol: str = "adm") -> Judge:
    """The Inception-v3 of a file, or without one the classifier that comes with the package."""
    if path:
        return Published(inception_files.load(path, protocol), f"FID Inception-v3, weights of {epath.Path(path).name}")
    return Small(classifier.load(), _BUNDLED)
