"""Networks that generated images are compared by: the Inception-v3, a DINOv2, or the small classifier of scenes."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from etils import epath
from PIL import Image
from scipy import special

from mmgen_jax.frozen import dino, dino_files, inception, inception_files
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.resample import offset_bicubic, smooth_bicubic
from mmgen_jax.metrics import classifier
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError

_BATCH = 32  # images that a DINOv2 sees at once, a power of two
_DEFAULT = "shapes"  # the short name of the classifier of images that say no classes


class Seen(NamedTuple):
    """What a network makes of images.

    Attributes:
      features: float32 [N, D].
      probabilities: of the network's classes, float32 [N, K]; K is 0 for a network without classes.
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
    def distance(self) -> str:
        """What the Frechet distance of its features is called."""
        ...

    @property
    def width(self) -> int:
        """Number of features."""
        ...

    @property
    def digest(self) -> str:
        """Tells its weights and its resizing from others; its file may have the name of others."""
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
    distance: str = "FID"

    @property
    def resizing(self) -> str:
        return inception.PROTOCOLS[self.weights.protocol].told

    @functools.cached_property
    def digest(self) -> str:
        return _digest(self.weights.params, self.resizing)

    def __call__(self, rgb: np.ndarray) -> Seen:
        features, spatial, logits = self.weights(rgb)
        return Seen(features, special.softmax(logits, 1), spatial)


@dataclass(frozen=True)
class SelfSupervised:
    """A DINOv2, by the token of the whole image (Stein et al. 2023, arXiv 2306.04675: FD-DINOv2, with ViT-L/14)."""

    weights: dino.Dino
    network: str
    distance: str = "FD-DINOv2"

    @property
    def resizing(self) -> str:
        return (
            f"Pillow's bicubic resizing with antialiasing to {self._side} x {self._side}, ImageNet's mean and deviation"
        )

    @property
    def width(self) -> int:
        return self.weights.config.width

    @functools.cached_property
    def digest(self) -> str:
        return _digest(self.weights.params, self.resizing)

    @property
    def _side(self) -> int:
        return self.weights.grid * self.weights.config.patch

    def __call__(self, rgb: np.ndarray) -> Seen:
        features = np.concatenate([self._part(rgb[i : i + _BATCH]) for i in range(0, len(rgb), _BATCH)])
        return Seen(features, np.zeros((len(rgb), 0), np.float32), None)

    def _part(self, rgb: np.ndarray) -> np.ndarray:
        side = (self._side, self._side)
        small = [np.asarray(Image.fromarray(image).resize(side, Image.Resampling.BICUBIC)) for image in rgb]
        most = 1 << (len(rgb) - 1).bit_length()  # a few shapes are compiled, whatever the numbers of images
        padded = np.pad(np.stack(small), ((0, most - len(rgb)), (0, 0), (0, 0), (0, 0)))
        return np.asarray(_of_image(self.weights, to_array(padded)))[: len(rgb)]


@jax.jit
def _of_image(weights: dino.Dino, x: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):  # figures of accelerators must be those of CPUs
        return weights.of_image(dino.normalise(x))


@dataclass(frozen=True)
class Small:
    """A classifier of rendered scenes. Its figures compare models on a laptop with each other, with nothing else."""

    weights: classifier.Classifier
    network: str
    width: int = classifier.FEATURES
    distance: str = "FID"

    @property
    def resizing(self) -> str:
        return f"linear with antialiasing to {self.weights.size} x {self.weights.size}"

    @functools.cached_property
    def digest(self) -> str:
        return _digest(self.weights.params, self.resizing)

    def __call__(self, rgb: np.ndarray) -> Seen:
        probabilities, features = self.weights.judge(rgb)
        return Seen(features, probabilities, None)


def _digest(params: Params, resizing: str) -> str:
    """SHA-256 of the names, types, shapes and numbers of weights, and of how images are resized for them."""
    total = hashlib.sha256(resizing.encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        value = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {value.dtype} {value.shape}\n".encode())
        total.update(value.data)
    return total.hexdigest()


def load(
    inception_file: epath.PathLike = "",
    protocol: str = "adm",
    dino_path: epath.PathLike = "",
    classifier_name: epath.PathLike = "",
    class_names: Sequence[str] = (),
) -> Judge:
    """The one network that is given, or without any the bundled classifier for `class_names`, if there is one.

    Raises UsageError for several, and for what cannot be read.
    """
    given = {"--inception": inception_file, "--dino": dino_path, "--classifier": classifier_name}
    if len(several := [f"{name} is {value}" for name, value in given.items() if value]) > 1:
        raise UsageError(f"{' and '.join(several)}; allowed: one network")
    if inception_file:
        weights = inception_files.load(inception_file, protocol)
        return Published(weights, f"FID Inception-v3, weights of {epath.Path(inception_file).name}")
    if dino_path:
        return _self_supervised(dino_path)
    return _small(classifier_name or classifier.name_for_classes(class_names) or _DEFAULT)


def _self_supervised(path: epath.PathLike) -> SelfSupervised:
    """Positions are resized as its authors' code does: other weights came with other code."""
    found = dino_files.load(path)
    resample = smooth_bicubic if found.config.registers else offset_bicubic
    kind = f"width {found.config.width}, depth {found.config.depth}, patches of {found.config.patch} pixels"
    name = f"DINOv2 of {epath.Path(path).name}: {kind}; the token of the image"
    return SelfSupervised(dataclasses.replace(found, resample=resample), name)


def _small(name: epath.PathLike) -> Small:
    """A classifier by its short name or its file."""
    bundled = classifier.bundled()
    path = bundled.get(str(name)) or files.here(name, "--classifier")
    if files.kind(path) != "a file":
        allowed = f"{', '.join(bundled)}, or a file that train_classifier wrote"
        raise UsageError(
            f"--classifier is {str(name)!r}, which is {files.kind(path) or 'not there'}; allowed: {allowed}"
        )
    weights = classifier.load(path)
    which = f"bundled classifier {name}" if str(name) in bundled else f"classifier {path.name}"
    knows = f"{len(weights.class_names)} classes{' and images without details' if weights.soft else ''}"
    return Small(weights, f"{which}, of {knows}; not to be compared with published figures")
