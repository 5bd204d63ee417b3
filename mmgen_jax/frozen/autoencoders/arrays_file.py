"""The file that the arrays of an autoencoder are kept in."""

from __future__ import annotations

import numpy as np
from etils import epath
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as dump_safetensors

from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.system import files, sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit

FILE = "autoencoder.safetensors"


def save_arrays(folder: epath.PathLike, autoencoder: Autoencoder) -> None:
    """Writes the arrays of an autoencoder to `FILE` in a folder that is sealed later; nothing where it has none."""
    if arrays := autoencoder.arrays():
        files.write(epath.Path(folder) / FILE, dump_safetensors(arrays))


def load_arrays(folder: epath.PathLike) -> dict[str, np.ndarray]:
    """What `save_arrays` wrote; empty where there is no file. Raises UsageError for one that is damaged."""
    path = epath.Path(folder) / FILE
    return read_arrays(path) if sealed.expects(path) else {}


def read_arrays(path: epath.PathLike) -> dict[str, np.ndarray]:
    """The arrays in a file that `save_arrays` wrote. Raises UsageError for one that is missing or damaged."""
    try:
        arrays = parse_safetensors(sealed.read(path))
    except (SafetensorError, KeyError) as error:  # KeyError: a type that NumPy does not have
        raise UsageError(f"{path} is damaged or not a safetensors file ({error})") from error
    fit.check_finite(arrays, path)
    return arrays
