"""Writes and reads weights: nested parameters as flat safetensors files."""

from __future__ import annotations

import jax
import numpy as np
from etils import epath
from flax import traverse_util
from numpy.typing import DTypeLike
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as dump_safetensors

from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.system import files, sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit

SEPARATOR = "."


def save_params(path: epath.PathLike, params: Params, dtype: DTypeLike = np.float32) -> None:
    """Writes nested float parameters under names such as "blocks.qkv.kernel", sealed; float16 halves the file."""
    flat = traverse_util.flatten_dict(params, sep=SEPARATOR)
    path = epath.Path(path)
    with sealed.sealing(path.parent, (path.name,)):
        files.write(path, dump_safetensors({k: np.ascontiguousarray(v, dtype=dtype) for k, v in flat.items()}))


def load_params(path: epath.PathLike) -> Params:
    """Reads what `save_params` wrote, as float32 on the host.

    Raises UsageError for a file that is missing or damaged, or has values that are not finite.
    """
    data = sealed.read(path)
    try:
        flat = parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise UsageError(f"weights file {path} is damaged or not a safetensors file ({error})") from error
    fit.check_finite(flat, path)
    for name in flat:
        if any(name.startswith(other + SEPARATOR) for other in flat):
            raise UsageError(f"weights file {path} has {name} inside of something that is an array itself")
    return traverse_util.unflatten_dict({k: v.astype(np.float32) for k, v in flat.items()}, sep=SEPARATOR)


def check_params(params: Params, model: Architecture, source: object) -> None:
    """Raises UsageError for the first weights that are missing, left over or misshapen for an architecture."""
    wanted = traverse_util.flatten_dict(jax.eval_shape(model.init, jax.random.key(0)), sep=SEPARATOR)
    found = traverse_util.flatten_dict(params, sep=SEPARATOR)
    fit.check(found, {name: value.shape for name, value in wanted.items()}, source)
