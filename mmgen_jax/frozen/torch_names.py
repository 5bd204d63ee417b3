"""Weights of networks whose attributes are named as in PyTorch: the path of a weight here is its name there."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from flax import traverse_util

from mmgen_jax.frozen.abstract import Params
from mmgen_jax.tensor_files import fit

Path = tuple[str | int, ...]


def _name(path: Path) -> str:
    return ".".join(map(str, (*path[:-1], "bias" if path[-1] == "bias" else "weight")))


def _to_torch(value: np.ndarray, path: Path) -> np.ndarray:
    """A view of a kernel [in, out] as [out, in], of one [h, w, in, out] as [out, in, h, w].

    Transposed convolutions have [h, w, out, in] here and [in, out, h, w] there.
    """
    if path[-1] != "kernel":
        return value
    return value.T if value.ndim == 2 else value.transpose(3, 2, 0, 1)


def _from_torch(value: np.ndarray, path: Path) -> np.ndarray:
    """Inverse of `_to_torch`."""
    if path[-1] != "kernel":
        return value
    return value.T if value.ndim == 2 else value.transpose(2, 3, 1, 0)


def to_torch(params: Params) -> dict[str, np.ndarray]:
    """Parameters -> contiguous arrays as PyTorch names and lays them out."""
    return {
        _name(path): np.ascontiguousarray(_to_torch(np.asarray(value), path))
        for path, value in traverse_util.flatten_dict(params).items()
    }


def from_torch(state: Mapping[str, np.ndarray], shapes: Params, source: object) -> Params:
    """Inverse of `to_torch`, float32. Raises UsageError naming the first weights that do not fit `shapes` or are NaN.

    Args:
      state: PyTorch's name -> array, of `source`.
      shapes: nested dict of what has a shape, as the parameters have it.
      source: where the arrays come from, for messages.
    """
    flat = traverse_util.flatten_dict(shapes)
    empty = {path: np.broadcast_to(np.float32(0), leaf.shape) for path, leaf in flat.items()}  # takes no memory
    fit.check(state, {_name(path): _to_torch(value, path).shape for path, value in empty.items()}, source)
    values = {path: fit.finite(np.asarray(state[_name(path)], np.float32), _name(path), source) for path in flat}
    return traverse_util.unflatten_dict({path: _from_torch(value, path) for path, value in values.items()})
