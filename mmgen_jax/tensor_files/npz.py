"""Reads NumPy's .npz files, without believing what their headers claim."""

from __future__ import annotations

import contextlib
import math
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO

import ml_dtypes
import numpy as np
from etils import epath

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import local

SUFFIX = ".npy"
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
UNTYPED = np.dtype("V2")  # what NumPy writes of bfloat16
RATIO = 1100  # deflate compresses no more than this; an entry that claims to be larger lies
BROKEN = (
    zipfile.BadZipFile, zlib.error, tokenize.TokenError, ValueError, TypeError, SyntaxError, EOFError, OverflowError,
    RecursionError, MemoryError, NotImplementedError, RuntimeError, KeyError,
)  # fmt: skip  # what zipfile and NumPy's parser of headers raise


class Npz(Mapping):
    """The entries of an .npz file; each is read whenever it is asked for."""

    def __init__(self, path: epath.PathLike):
        """Raises UsageError for a file that is missing or damaged."""
        if local.map_file(path)[:6].tobytes() == np.lib.format.MAGIC_PREFIX:
            raise UsageError(f"{path} is not an .npz file but a single array")
        self._path = path
        try:
            self._file = zipfile.ZipFile(path)
        except BROKEN as error:
            raise UsageError(f"{path} is damaged or not an .npz file ({error})") from error
        self._entries = {entry.filename.removesuffix(SUFFIX): entry for entry in self._file.infolist()}

    def __getitem__(self, name: str) -> np.ndarray:
        with self._told(name):
            return self._read(self._entries[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of an entry, which is not read. Raises KeyError without one, and UsageError as reading it does."""
        with self._told(name), self._opened(self._entries[name]) as (_, shape, _, _):
            return shape

    def rows(self, name: str, count: int) -> Iterator[np.ndarray]:
        """The entry in parts of at most `count` rows, so that it may be larger than the memory; raises as `shape`."""
        with self._told(name), self._opened(self._entries[name]) as (file, shape, transposed, dtype):
            if transposed:
                raise ValueError("its columns are stored one after another")
            for first in range(0, shape[0], count):
                part = (min(count, shape[0] - first), *shape[1:])
                yield np.frombuffer(file.read(math.prod(part) * dtype.itemsize), dtype).reshape(part)

    @contextlib.contextmanager
    def _told(self, name: str) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            if isinstance(error, UsageError) or name not in self._entries:
                raise
            raise UsageError(f"entry {name} of {self._path} is damaged or not an array ({error})") from error

    def _read(self, entry: zipfile.ZipInfo) -> np.ndarray:
        with self._opened(entry) as (file, shape, transposed, dtype):
            array = np.frombuffer(file.read(), dtype, math.prod(shape))
            return array.reshape(shape, order="F" if transposed else "C")

    @contextlib.contextmanager
    def _opened(self, entry: zipfile.ZipInfo) -> Iterator[tuple[IO[bytes], tuple[int, ...], bool, np.dtype]]:
        """The numbers of an entry, its shape, whether columns follow each other, and its type."""
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError("it is compressed in another way than NumPy does")
        if entry.file_size > RATIO * (entry.compress_size + 1):
            raise ValueError(f"it claims {entry.file_size} bytes, stored in {entry.compress_size}")
        with self._file.open(entry) as file:
            version = np.lib.format.read_magic(file)
            if version not in HEADERS:
                raise ValueError(f"its version is {version}")
            shape, transposed, dtype = HEADERS[version](file)
            if dtype == UNTYPED:
                dtype = np.dtype(ml_dtypes.bfloat16)
            if dtype.kind not in "biufc" and dtype != ml_dtypes.bfloat16:
                raise ValueError(f"it holds values of type {dtype}")
            count, size = math.prod(shape), entry.file_size - file.tell()
            if not all(type(n) is int and n >= 0 for n in shape) or count * dtype.itemsize != size:
                raise ValueError(f"its header says {dtype} {shape}, but {size} bytes follow")
            yield file, shape, transposed, dtype

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
