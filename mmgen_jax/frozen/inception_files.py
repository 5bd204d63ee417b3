"""Reads the weights of the FID Inception-v3 from the files of pytorch-fid and torch-fidelity, or their like."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from etils import epath
from flax import traverse_util

from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.inception import Inception, abstract_params
from mmgen_jax.tensor_files import fit, states, tensors

ANCHOR = "Conv2d_1a_3x3.conv.weight"
EPSILON = 1e-3  # of the normalisations
_UNUSED = "num_batches_tracked"  # counters of PyTorch's training
_NORM = ("weight", "bias", "running_mean", "running_var")


def wanted() -> dict[str, tuple[int, ...]]:
    """Name -> shape of the weights as the files have them."""
    shapes = {}
    for path, leaf in traverse_util.flatten_dict(abstract_params()).items():
        if path[-1] == "kernel":
            name = ".".join(path[:-1])
            shapes[f"{name}.weight"] = tuple(leaf.shape[i] for i in ((1, 0) if leaf.ndim == 2 else (3, 2, 0, 1)))
            if path[-2] == "conv":
                norm = name.removesuffix("conv") + "bn"
                shapes |= {f"{norm}.{part}": (leaf.shape[-1],) for part in _NORM}
            else:
                shapes[f"{name}.bias"] = (leaf.shape[-1],)
    return shapes


def to_params(state: Mapping[str, np.ndarray], source: object) -> Params:
    """Weights as the files have them -> parameters, with normalisations folded into the convolutions before them.

    Raises UsageError for the first that do not fit, that are NaN, or that are a variance below 0.
    """
    shapes = wanted()
    fit.check({name: value for name, value in state.items() if not name.endswith(_UNUSED)}, shapes, source)
    known = {name: fit.finite(np.asarray(state[name], np.float64), name, source) for name in shapes}
    fit.refuse(
        {"negative": [name for name, value in known.items() if name.endswith(_NORM[3]) and (value < 0).any()]},
        source,
        "the network",
    )
    flat = {}
    for path in traverse_util.flatten_dict(abstract_params()):
        name = ".".join(path[:-1])
        if path[-2] != "conv":
            flat[path] = known[f"{name}.weight"].T if path[-1] == "kernel" else known[f"{name}.bias"]
            continue
        scale, bias, mean, variance = (known[f"{name.removesuffix('conv')}bn.{part}"] for part in _NORM)
        factor = scale / np.sqrt(variance + EPSILON)
        kernel = known[f"{name}.weight"].transpose(2, 3, 1, 0) * factor
        flat[path] = kernel if path[-1] == "kernel" else bias - mean * factor
    return traverse_util.unflatten_dict({path: value.astype(np.float32) for path, value in flat.items()})


def load(path: epath.PathLike, protocol: str = "adm") -> Inception:
    """Reads a .pth file of pytorch-fid or torch-fidelity, or a .safetensors or .npz file with the same names.

    Nothing in the file is executed. Raises UsageError for a file of another network, and as `tensors.read`.
    """
    state = states.read(tensors.read(path), (ANCHOR,), path).whole
    return Inception(to_params(state, path), protocol)
