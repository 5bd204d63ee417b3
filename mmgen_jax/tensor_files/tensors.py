"""Reads files of weights: .safetensors, .npz, PyTorch's .pt, .pth, .bin and .ckpt, and sets of them with an index."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import local, torch_file
from mmgen_jax.tensor_files.npz import Npz

TORCH = (".pt", ".pth", ".bin", ".ckpt")
INDEX = ".index.json"
INDEXES = (INDEX, ".index.fp16.json")  # of weights, and of those in half precision beside them
SUFFIXES = (".safetensors", ".npz", *TORCH, *INDEXES)
SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


_PART = re.compile(r"-(\d+)-of-(\d+)\.")


def read(path: epath.PathLike) -> object:
    """Opens a file and returns its arrays by name, whose bytes are read when they are used.

    A file of PyTorch may hold any value: see `torch_file.read`, and `states` for the weights within. Of an index, the
    arrays of all its files are returned. Suffixes may be of any case; the format is the one that a file begins with.
    Raises UsageError for a file that is missing or damaged.
    """
    path = files.here(path)
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        raise UsageError(f"{path} has the suffix {path.suffix!r}; allowed: {', '.join(SUFFIXES)}")
    if name.endswith(INDEXES):
        return _parts(path)
    part = _PART.search(name)
    if part and int(part[2]) > 1:
        raise UsageError(
            f"{path} is part {int(part[1])} of {int(part[2])}; give the folder, or the file *{INDEX} in it"
        )
    return _open(path)


def _open(path: epath.Path) -> object:
    head = local.map_file(path)[:9].tobytes()
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return Npz(path)
    if head[8:] == b"{" or (suffix == ".safetensors" and not head.startswith(b"PK")):
        return _safetensors(path)
    return torch_file.read(path)


def _parts(path: epath.Path) -> dict[str, Any]:
    """The arrays of the files that an index lists: {"weight_map": {name: file}}."""
    data = local.map_file(path).tobytes()
    try:
        files = reading.parse_json(data, path)["weight_map"]
        if not all(isinstance(file, str) and file == epath.Path(file).name for file in files.values()):
            raise ValueError("its weight_map names something other than files beside it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged or not an index of weights ({error!r})") from error
    opened = {file: _open(path.parent / file) for file in sorted(set(files.values()))}
    found = {}
    for name, file in files.items():
        part = opened[file]
        if not isinstance(part, Mapping) or name not in part:
            raise UsageError(f"{path.parent / file} has no {name}, which {path.name} says")
        found[name] = part[name]
    return found


def _safetensors(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Reads a safetensors file: the length of the header (8 bytes), a JSON header, and the arrays one after another."""
    data = local.map_file(path)
    try:
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        if start > data.size:
            raise ValueError(f"its header of {start - 8} bytes reaches beyond its end")
        header = reading.parse_json(data[8:start].tobytes(), "its header")
        header.pop("__metadata__", None)
        return {name: _view(name, entry, data[start:]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} is damaged or not a safetensors file ({error})") from error


def _view(name: str, entry: dict, data: np.ndarray) -> np.ndarray:
    shape, (first, last) = tuple(entry["shape"]), entry["data_offsets"]
    if entry["dtype"] not in SAFETENSORS_DTYPES:
        raise ValueError(f"{name} has the type {entry['dtype']!r}; allowed: {', '.join(SAFETENSORS_DTYPES)}")
    dtype = np.dtype(SAFETENSORS_DTYPES[entry["dtype"]])
    natural = all(type(n) is int and n >= 0 for n in (*shape, first, last))
    if not natural or last > data.size or last - first != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} does not fit the bytes that it names")
    return np.ndarray(shape, dtype, data, first) if last > first else np.zeros(shape, dtype)
