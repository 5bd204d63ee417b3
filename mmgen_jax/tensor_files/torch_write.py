"""Writes files that torch.load reads, without PyTorch; the inverse of `torch_file`."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np
from etils import epath

from mmgen_jax.system import files
from mmgen_jax.tensor_files.torch_pickle import STORAGES, Namespace

ROOT = "archive"
ALIGNMENT = 64  # bytes; storages start at its multiples within the file, so that PyTorch can map them
KINDS = {np.dtype(dtype): name for name, dtype in STORAGES.items()}


def _text(value: str) -> bytes:
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data


class _Pickler:
    """Makes a pickle of protocol 2 of a value, in PyTorch's form; `arrays` are the storages that it refers to."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def dumps(self, value: object) -> bytes:
        return pickle.PROTO + b"\x02" + self._value(value) + pickle.STOP

    def _value(self, value: object) -> bytes:
        if value is None:
            return pickle.NONE
        if isinstance(value, bool):
            return pickle.NEWTRUE if value else pickle.NEWFALSE
        if isinstance(value, int):
            return _integer(value)
        if isinstance(value, float):
            return pickle.BINFLOAT + struct.pack(">d", value)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, tuple):
            return self._tuple(value)
        if isinstance(value, list):
            return pickle.EMPTY_LIST + pickle.MARK + b"".join(map(self._value, value)) + pickle.APPENDS
        if isinstance(value, Namespace):
            new = _global("argparse", "Namespace") + pickle.EMPTY_TUPLE + pickle.NEWOBJ
            return new + self._value(dict(value)) + pickle.BUILD
        if isinstance(value, Mapping):
            entries = b"".join(self._value(k) + self._value(v) for k, v in value.items())
            return pickle.EMPTY_DICT + pickle.MARK + entries + pickle.SETITEMS
        if isinstance(value, np.ndarray):
            return self._tensor(value)
        raise TypeError(f"a value of type {type(value).__name__} cannot be written")

    def _tuple(self, values: tuple) -> bytes:
        return pickle.MARK + b"".join(map(self._value, values)) + pickle.TUPLE

    def _tensor(self, array: np.ndarray) -> bytes:
        """Instructions that call _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)."""
        key = str(len(self.arrays))
        self.arrays.append(array)
        kind = _global("torch", KINDS[array.dtype])
        rest = self._tuple((key, "cpu", array.size))[1:]
        storage = pickle.MARK + _text("storage") + kind + rest + pickle.BINPERSID
        strides = tuple(int(np.prod(array.shape[i + 1 :])) for i in range(array.ndim))
        hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
        shape = self._value(0) + self._tuple(array.shape) + self._tuple(strides) + pickle.NEWFALSE
        arguments = pickle.MARK + storage + shape + hooks + pickle.TUPLE
        return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _add(archive: zipfile.ZipFile, name: str, data: bytes | memoryview) -> None:
    """Adds a member without compression; padding in its extra field aligns its data."""
    info = zipfile.ZipInfo(f"{ROOT}/{name}")
    assert archive.fp  # it is open
    start = archive.fp.tell() + 30 + len(info.filename) + 4
    padding = -start % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    info.file_size = len(data)
    with archive.open(info, "w") as member:
        member.write(data)


def write(path: epath.PathLike, value: object) -> None:
    """Writes nested dicts, lists and tuples of arrays and plain values; the file is whole or not there.

    A `Namespace` becomes an argparse.Namespace. One array at a time is made contiguous and little-endian.
    Raises TypeError for any other value.
    """
    pickler = _Pickler()
    data = pickler.dumps(value)
    with files.replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "data.pkl", data)
        _add(archive, "byteorder", b"little")
        for i, array in enumerate(pickler.arrays):
            # Arrays are written as raw bytes, since NumPy cannot make a buffer of bfloat16.
            flat = np.ascontiguousarray(array).reshape(-1)
            _add(archive, f"data/{i}", flat.view(np.uint8).data)
        _add(archive, "version", b"3\n")
