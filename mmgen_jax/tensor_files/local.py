"""Opens files of weights: what may be opened at all, and their bytes as a memory map."""

from __future__ import annotations

import mmap

import numpy as np
from etils import epath

from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError

POINTER = (
    b"version https://git-lfs.github.com/spec/"  # begins the small file that Git LFS keeps in place of a large one
)


def map_file(path: epath.PathLike) -> np.ndarray:
    """Maps a local file as read-only bytes, uint8.

    Raises UsageError as `reading.regular` does, and for an empty file or a pointer of Git LFS.
    """
    path = reading.regular(files.here(path))
    if not path.stat().length:
        raise UsageError(f"{path} is empty")
    with open(path, "rb") as file:
        data = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)
    if data[: len(POINTER)].tobytes() == POINTER:
        raise UsageError(f"{path} is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull")
    return data


def release(array: np.ndarray) -> None:
    """Frees the pages of the mapped file behind `array` that were read. They are read again when they are needed.

    Otherwise they would count as memory in use for as long as any array views the file.
    """
    owner: object = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)
