"""Reads PyTorch's files (torch.save) without PyTorch; every tensor is a view of one memory map.

Such a file is a zip archive. It holds `data.pkl`, a pickle in which tensors refer to storages, and these storages,
uncompressed.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from etils import epath

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import local, torch_pickle
from mmgen_jax.tensor_files.torch_pickle import Storage, StorageType, naturals

LEGACY = b"\x80"  # first byte of a bare pickle, the format of torch.save before PyTorch 1.6
LOCAL_HEADER = struct.Struct("<4s22xHH")  # header of a zip member: magic, lengths of its name and its extra field


def members(path: epath.PathLike, data: np.ndarray) -> dict[str, np.ndarray]:
    """Finds the members of a zip file: name -> bytes, as views of `data`. Raises ValueError if one cannot be a view."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    for entry in entries:
        start = entry.header_offset + LOCAL_HEADER.size
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise ValueError(f"its member {entry.filename} is compressed or encrypted")
        if entry.header_offset < 0 or start > data.size:
            raise ValueError(f"its member {entry.filename} lies outside of it")
        magic, name, extra = LOCAL_HEADER.unpack(data[entry.header_offset : start].tobytes())
        start += name + extra
        if magic != b"PK\x03\x04" or start + entry.file_size > data.size:
            raise ValueError(f"its member {entry.filename} lies outside of it")
        found[entry.filename] = data[start : start + entry.file_size]
    return found


def _storages(root: str, found: Mapping[str, np.ndarray], limit: int) -> Callable[[object], Storage]:
    def storage(reference: object) -> Storage:
        """("storage", type, key, location, number of elements) -> the storage."""
        if not isinstance(reference, tuple) or len(reference) != 5 or reference[0] != "storage":
            raise ValueError("a tensor refers to something other than a storage")
        _, kind, key, _, count = reference
        naturals("storage", (count,))
        if not isinstance(kind, StorageType) or not isinstance(key, str):
            raise ValueError("a storage has no type or no name")
        if f"{root}/data/{key}" not in found:
            raise ValueError(f"its storage {key} is missing")
        stored = found[f"{root}/data/{key}"]
        if count * kind.dtype.itemsize > stored.size:
            raise ValueError(f"its storage {key} has {stored.size} bytes, fewer than {count} x {kind.dtype}")
        return Storage(np.ndarray((count,), kind.dtype, stored), limit)

    return storage


def read(path: epath.PathLike) -> object:
    """Reads the value in a file of `torch.save`, with every tensor as a read-only array that views the file.

    An OrderedDict becomes a dict, a Namespace a `torch_pickle.Namespace`, a dtype NumPy's, and a device its name; what
    is none of this and no plain value becomes a `torch_pickle.Unknown`.
    Raises UsageError for a file that is missing, damaged or of another format, or that wants to call a function.
    """
    data = local.map_file(path)
    head = data[:4].tobytes()
    if head.startswith(LEGACY):
        raise UsageError(f"{path} is in the format from before PyTorch 1.6; load it with PyTorch and save it again")
    if not head.startswith(b"PK"):
        raise UsageError(f"{path} is not a file of torch.save, which is a zip archive")
    try:
        found = members(path, data)
        roots = [name.partition("/")[0] for name in found if name.partition("/")[2] == "data.pkl"]
        if len(roots) != 1:
            raise ValueError("it has no data.pkl")
        (root,) = roots
        if f"{root}/byteorder" in found and found[f"{root}/byteorder"].tobytes() != b"little":
            raise ValueError("its numbers are not little-endian")
        return torch_pickle.load(found[f"{root}/data.pkl"].tobytes(), _storages(root, found, data.size))
    except (zipfile.BadZipFile, struct.error, ValueError, IndexError, TypeError, NotImplementedError) as error:
        raise UsageError(f"{path} cannot be read as a file of torch.save: {error}") from error


class Streamed(Mapping):
    """Arrays by name that keep memory low: reading one first frees the pages of the file that were read before."""

    def __init__(self, state: Mapping[str, np.ndarray]):
        self._state = state

    def __getitem__(self, name: str) -> np.ndarray:
        value = self._state[name]
        local.release(value)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)
