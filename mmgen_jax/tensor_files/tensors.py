"""Reads files that map names to arrays: .safetensors, .npz and PyTorch's .pt, .pth, .bin."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import TypeGuard

import ml_dtypes
import numpy as np
from etils import epath

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import torch_file

TORCH = (".pt", ".pth", ".bin")
SUFFIXES = (".safetensors", ".npz", *TORCH)
WRAPPERS = ("state_dict", "model")  # entries of a checkpoint that hold its weights
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


def read(path: epath.PathLike) -> Mapping[str, np.ndarray]:
    """Opens a file by the format of its suffix and returns its arrays, whose bytes are read when they are used.

    Of a PyTorch checkpoint that holds more than weights, the entry "state_dict" or "model" is returned.
    Raises UsageError for a file that is missing or damaged, or that holds anything other than arrays.
    """
    suffix = epath.Path(path).suffix
    if suffix in TORCH:
        return _unwrap(torch_file.read(path), path)
    if suffix == ".safetensors":
        return _safetensors(path)
    if suffix == ".npz":
        return _Npz(path)
    raise UsageError(f"{path} has the suffix {suffix!r}; allowed: {', '.join(SUFFIXES)}")


def _unwrap(value: object, path: epath.PathLike) -> dict[str, np.ndarray]:
    candidates: list[object] = [value]
    if isinstance(value, dict):
        candidates += [value[key] for key in WRAPPERS if key in value]
    for candidate in candidates:
        if is_state(candidate):
            return candidate
    raise UsageError(f"{path} holds no weights: neither it nor its entry {' or '.join(WRAPPERS)} is a dict of arrays")


def is_state(value: object) -> TypeGuard[dict[str, np.ndarray]]:
    """Whether a value is a dict from names to arrays that is not empty."""
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, np.ndarray) for k, v in value.items())
    )


def _safetensors(path: epath.PathLike) -> dict[str, np.ndarray]:
    """Reads a safetensors file: the length of the header (8 bytes), a JSON header, and the arrays one after another."""
    data = torch_file.map_file(path)
    try:
        start = 8 + int.from_bytes(data[:8].tobytes(), "little")
        if start > data.size:
            raise ValueError(f"its header of {start - 8} bytes reaches beyond its end")
        header = json.loads(data[8:start].tobytes())
        header.pop("__metadata__", None)
        return {name: _view(name, entry, data[start:]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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


class _Npz(Mapping):
    """The entries of an .npz file; each is read whenever it is asked for."""

    def __init__(self, path: epath.PathLike):
        if not epath.Path(path).is_file():
            raise UsageError(f"{path}: no such file")
        self._path = path
        try:
            self._file = np.load(path, allow_pickle=False)
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            raise UsageError(f"{path} is damaged or not an .npz file ({error})") from error
        if not isinstance(self._file, np.lib.npyio.NpzFile):
            raise UsageError(f"{path} is not an .npz file but a single array")

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._file[name]
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
            raise UsageError(f"entry {name} of {self._path} is damaged or not an array ({error})") from error

    def __contains__(self, name: object) -> bool:
        return name in self._file

    def __iter__(self) -> Iterator[str]:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)
