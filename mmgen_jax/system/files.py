"""Writes files so that they are complete or absent, and checks beforehand that they can be written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator

from etils import epath

from mmgen_jax.system.errors import UsageError

LIST = "files.txt"


def is_remote(path: epath.PathLike) -> bool:
    """Whether it is on storage like gs://, where there are no folders, no permissions and no appending."""
    return "://" in str(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The absolute path. A gs:// path is returned unchanged, as `resolve` would take it for a local one."""
    path = epath.Path(path)
    return path if is_remote(path) else path.resolve()


def write(path: epath.PathLike, data: bytes) -> None:
    """Writes a file under another name and renames it, so that an interrupted run leaves no half of it.

    Creates the folder, as `check_place` allows one that is not there. On remote storage a file appears when it is
    whole, and renaming is a copy: there it is simply written.
    """
    path = epath.Path(path)
    if is_remote(path):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: epath.PathLike) -> Iterator[None]:
    """Within the block no other process may enter the same folder: two runs would delete each other's checkpoints.

    Creates the folder. Does nothing on remote storage, where there are no locks. Raises UsageError if it is taken.
    """
    if is_remote(folder):
        yield
        return
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:  # the lock goes with the process, however that ends
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"workdir {folder} is in use by another run, which may be just ending; allowed: one run at a time"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # a file system without locks
                raise
        yield


def check_place(path: epath.PathLike, name: str, *, folder: bool) -> None:
    """Raises UsageError unless a file, or a folder of files, can be written at `path`; leaves nothing behind.

    To be called before the work whose results go there. `name` is the option that gave the path.
    """
    path = epath.Path(path)
    if is_remote(path):  # whether it is writable shows only when it is written
        return
    if path.exists() and path.is_dir() != folder:
        kinds = ("a file", "a folder")
        raise UsageError(f"{name} {path} is {kinds[not folder]}; allowed: {kinds[folder]}")
    place = path if folder else path.parent
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{name} {path} cannot be written: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"{name} {path} cannot be written: {place} is not writable")


def claim(folder: epath.PathLike, names: Iterable[str]) -> None:
    """Prepares `folder` for a set of files: removes files of the previous set that the new one does not replace.

    `files.txt` in the folder lists the previous set and is rewritten; files that it does not list are never removed.
    """
    folder, names = epath.Path(folder), sorted(names)
    listed = folder / LIST
    if listed.exists():
        for name in set(listed.read_text().splitlines()) - set(names):
            if epath.Path(name).name == name:  # a file in this folder, whatever the list says
                (folder / name).unlink(missing_ok=True)
    write(listed, "".join(f"{name}\n" for name in names).encode())
