"""Small classifiers of rgb images, independent of the generator. They judge whether samples show the wanted class.

They were trained on rendered scenes with flips, blur, noise and colour changes, so that a slightly blurred sample is
judged by its shape. One of larger images also knows which images have lost their details, and does not take these for
their class. Some come with the package, and each is used only for data sets with the class names it was trained on.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from flax import nnx, traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as dump_safetensors

from mmgen_jax.frozen import abstract
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.system import files, reading, sealed
from mmgen_jax.system.errors import NotFinite, UsageError
from mmgen_jax.tensor_files import fit

_ASSETS = epath.Path(__file__).parents[1] / "assets"
_ENDING = "-classifier.safetensors"  # behind the short names of all that come with the package
BUNDLED = _ASSETS / f"shapes{_ENDING}"
_WIDTHS = (24, 32, 48, 64)  # numbers of channels of the last four convolutions
_STRIDES = (2, 1, 2, 1)
_FIRST = 16  # number of channels of those before, which have stride 2
FEATURES = 2 * _WIDTHS[-1]
_SMALL, _MOST = 32, 2  # size in pixels of images for which four convolutions are enough, and how many more there may be
_CHUNK = 256  # number of images computed at once


def _more(size: int) -> int:
    """How many convolutions images of `size` pixels need beside four: one more whenever the size doubles."""
    return min(max((max(size, 1) - 1).bit_length() - (_SMALL - 1).bit_length(), 0), _MOST)


class ConvNet(nnx.Module):
    """Four to six 3 x 3 convolutions with group norm, mean and maximum over the image, and a linear layer to logits."""

    def __init__(self, classes: int, size: int, rngs: nnx.Rngs):
        widths, strides = (_FIRST,) * _more(size) + _WIDTHS, (2,) * _more(size) + _STRIDES
        shapes = zip((3, *widths[:-1]), widths, strides, strict=True)
        self.convs = nnx.List([nnx.Conv(a, b, (3, 3), strides=s, rngs=rngs) for a, b, s in shapes])
        self.norms = nnx.List([nnx.GroupNorm(b, num_groups=8, rngs=rngs) for b in widths])
        self.head = nnx.Linear(2 * widths[-1], classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Computes logits [B, K] of images [B, H, W, 3] in [-1, 1]."""
        return self.head(self.features(x))

    def features(self, x: jax.Array) -> jax.Array:
        """Computes the mean and the maximum of the last channels, [B, D], of images [B, H, W, 3] in [-1, 1]."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = jax.nn.relu(norm(conv(x)))
        # The gradient of `max` divides by how many values equal it, which is 0 if these are computed anew and rounded.
        # Pooling picks one of them.
        highest = nnx.max_pool(x, x.shape[1:3])[:, 0, 0]
        return jnp.concatenate([x.mean((1, 2)), highest], -1)


def _network(params: dict, classes: int, size: int) -> ConvNet:
    return nnx.merge(abstract.graphdef(ConvNet, classes, size), params)


def _logits(params: dict, x: jax.Array, classes: int) -> jax.Array:
    return _network(params, classes, x.shape[1])(x)


@functools.partial(jax.jit, static_argnames=("classes", "size"))
def _judged(params: dict, rgb: jax.Array, classes: int, size: int) -> tuple[jax.Array, jax.Array]:
    x = to_array(rgb)
    if x.shape[1:3] != (size, size):
        x = jax.image.resize(x, (len(x), size, size, 3), "linear", antialias=True)
    net = _network(params, classes, size)
    features = net.features(x)
    return jax.nn.softmax(net.head(features)), features


@dataclass(frozen=True)
class Classifier:
    """A trained `ConvNet`.

    Attributes:
      params: its weights.
      class_names: the names of its K classes.
      size: image size in pixels that it was trained at.
      soft: whether it has one more output, the last, for images that have lost their details.
    """

    params: dict
    class_names: tuple[str, ...]
    size: int
    soft: bool = False

    @property
    def outputs(self) -> int:
        return len(self.class_names) + self.soft

    def predict(self, rgb: np.ndarray) -> np.ndarray:
        """Probabilities float32 [N, K], or [N, K + 1], of rgb uint8 [N, H, W, 3]; other sizes are resized first.

        Raises ValueError for another type or shape, and NotFinite for weights that make NaN of an image.
        """
        return self.judge(rgb)[0]

    def features(self, rgb: np.ndarray) -> np.ndarray:
        """Features float32 [N, D] before the last layer, of rgb as `predict` takes it; raises as that does."""
        return self.judge(rgb)[1]

    def judge(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What `predict` and `features` return, computed together."""
        rgb = np.asarray(rgb)
        if rgb.dtype != np.uint8 or rgb.ndim != 4 or rgb.shape[-1] != 3:
            raise ValueError(f"rgb is {rgb.dtype} {rgb.shape}: must be uint8 [N, H, W, 3]")
        blank = (
            np.zeros((0, self.outputs), np.float32),
            np.zeros((0, FEATURES), np.float32),
        )
        parts = [blank]
        for start in range(0, len(rgb), _CHUNK):
            part = rgb[start : start + _CHUNK]
            padded = np.pad(part, ((0, _CHUNK - len(part)), (0, 0), (0, 0), (0, 0)))  # so that one shape is compiled
            both = _judged(self.params, padded, self.outputs, self.size)
            parts.append((np.asarray(both[0])[: len(part)], np.asarray(both[1])[: len(part)]))
            if not np.isfinite(parts[-1][0]).all():
                raise NotFinite("the classifier's probabilities are NaN; look at its weights")
        return np.concatenate([p for p, _ in parts]), np.concatenate([f for _, f in parts])

    def save(self, path: epath.PathLike) -> None:
        """Writes float16 weights with the class names, the size and whether it is of soft images as metadata."""
        metadata = {"class_names": json.dumps(self.class_names), "size": str(self.size), "soft": str(int(self.soft))}
        half = {name: np.asarray(value, np.float16) for name, value in _flat(self.params).items()}
        path = epath.Path(path)
        with sealed.sealing(path.parent, (path.name,)):
            files.write(path, dump_safetensors(half, metadata))


def _flat(params: dict) -> dict:
    return {".".join(map(str, name)): value for name, value in traverse_util.flatten_dict(params).items()}


def _nest(flat: dict) -> dict:
    """Inverse of `_flat`; parts that are numbers (of a layer in a list) become integers."""
    return traverse_util.unflatten_dict(
        {tuple(int(k) if k.isdigit() else k for k in name.split(".")): value for name, value in flat.items()}
    )


def load(path: epath.PathLike = BUNDLED) -> Classifier:
    """Reads what `Classifier.save` wrote; raises UsageError for a missing or damaged file."""
    sealed.read(path)
    try:
        with safe_open(str(path), "numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            flat = {name: file.get_tensor(name).astype(np.float32) for name in names}
        class_names = tuple(reading.parse_json(metadata["class_names"], "its list of class names", list))
        size, soft = int(metadata["size"]), bool(int(metadata.get("soft", 0)))  # older files do not say
    except (SafetensorError, KeyError, ValueError) as error:
        raise UsageError(f"classifier file {str(path)!r} is damaged or not a classifier ({error!r})") from error
    fit.check_finite(flat, path)
    wanted = _flat(abstract.params(ConvNet, len(class_names) + soft, size))
    fit.check(flat, {name: value.shape for name, value in wanted.items()}, f"classifier file {str(path)!r}")
    return Classifier(_nest(flat), class_names, size, soft)


def bundled() -> dict[str, epath.Path]:
    """Short name -> file of the classifiers that come with the package."""
    return {path.name.removesuffix(_ENDING): path for path in sorted(_ASSETS.glob(f"*{_ENDING}"))}


def name_for_classes(class_names: Sequence[str]) -> str | None:
    """The short name of the bundled classifier that knows exactly these classes in this order, or None."""
    wanted = tuple(class_names)
    return next((name for name, path in bundled().items() if load(path).class_names == wanted), None)


def for_classes(class_names: Sequence[str]) -> Classifier | None:
    """The bundled classifier that knows exactly these classes in this order, or None if none does."""
    name = name_for_classes(class_names)
    return load(bundled()[name]) if name else None


def accuracy(probabilities: np.ndarray, class_id: np.ndarray) -> float:
    """Share of the rows of probabilities [N, K] whose largest entry is at class_id [N].

    Rows of class -1, which are of no known class, do not count; NaN if no row does. Raises ValueError for shapes that
    do not fit, for classes beyond K, and for probabilities that are not finite, whose largest entry means nothing.
    """
    if probabilities.shape[:-1] != class_id.shape:
        raise ValueError(f"class_id has shape {class_id.shape}: must be {probabilities.shape[:-1]}")
    if class_id.size and not -1 <= class_id.min() <= class_id.max() < probabilities.shape[-1]:
        raise ValueError(
            f"class_id is {class_id.min()} to {class_id.max()}: must be -1 to {probabilities.shape[-1] - 1}"
        )
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities are NaN or infinite: must be finite")
    known = class_id >= 0
    return float(np.mean((probabilities.argmax(-1) == class_id)[known])) if known.any() else float("nan")


def per_class(probabilities: np.ndarray, class_id: np.ndarray, class_names: Sequence[str]) -> dict[str, float]:
    """`accuracy` of each class by name; NaN for a class without samples."""
    rows = {name: class_id == i for i, name in enumerate(class_names)}
    return {name: accuracy(probabilities[r], class_id[r]) if r.any() else float("nan") for name, r in rows.items()}
