"""Writes files so that they are complete or absent, and checks beforehand that they can be written."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import os
import stat
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Iterator

from etils import epath

from mmgen_jax.system.console import say
from mmgen_jax.system.errors import OF_MACHINE, RunError, UsageError, extra, shown

LIST = "files.txt"
PATIENCE_SECONDS = 30  # how long a run waits for the one before it, which may be saving its last step
_POLL_SECONDS = 0.2
_WILDCARDS = frozenset("[]*?\\")
_UNPRINTED = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories of control characters, of bytes out of place, of line ends

_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_NONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)  # of names that no file has


def is_remote(path: epath.PathLike) -> bool:
    """Whether it is on storage like gs://, where there are no folders, no permissions and no appending."""
    return "://" in str(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The absolute path. A gs:// path is returned unchanged, as `resolve` would take it for a local one."""
    path = epath.Path(path)
    return path if is_remote(path) else path.resolve()


def kind(path: epath.PathLike) -> str:
    """What is at a path on this machine: "a file", "a folder", "a FIFO", ...; "" for nothing.

    Links are followed; one that leads to nothing is "a link that leads nowhere".
    """
    try:
        return _KINDS[stat.S_IFMT(os.stat(path).st_mode)]
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, OSError) and error.errno not in _NONE:
            raise
        return "a link that leads nowhere" if isinstance(error, OSError) and os.path.islink(path) else ""


def path_of(value: object, name: str) -> epath.Path:
    """The path that a user passes as `name`.

    Raises UsageError for what is none, an empty one, a URL of the web, other storage than gs://, and gs:// without the
    package that reads it.
    """
    allowed, text = "a path on this machine or in gs://", value
    try:
        if value != "":
            text = str(path := epath.Path(value))  # type: ignore[arg-type]
    except Exception as error:  # an object of the user's may raise anything
        raise UsageError(f"{name} is {shown(value)}; allowed: {allowed}") from error
    if not text or "\0" in str(text):
        has = ", which has '\\x00'" if text else ""
        raise UsageError(f"{name} is {shown(text)}{has}; allowed: {allowed}")
    if is_remote(path):
        taken = "" if is_remote(value) else f", which is taken for {path}"  # type: ignore[arg-type]  # /s3/a is, by etils
        if not str(path).startswith("gs://"):
            raise UsageError(f"{name} is {shown(value)}{taken}; allowed: {allowed}")
        try:
            importlib.import_module("gcsfs")
        except ImportError as error:
            needs = f"which needs gcsfs; allowed: {allowed}, after {extra('gcs').rstrip(',')}"
            raise UsageError(f"{name} is {shown(value)}{taken}, {needs}") from error
    return path


def here(path: epath.PathLike, name: str = "") -> epath.Path:
    """A path on this machine, which a user passes as `name`. Raises UsageError for any other."""
    if is_remote(path):
        raise UsageError(f"{f'{name} ' if name else ''}{path} is not on this machine; copy it here and give its path")
    return path_of(path, name or str(path))


def check_path(path: epath.PathLike, name: str) -> None:
    """Raises UsageError for a folder of checkpoints or data whose absolute path libraries would take for another one.

    etils looks for files with the folder as a part of the pattern, so that Orbax and TFDS do not find their own;
    TensorStore takes a backslash for a slash, and only text. `name` is what the path was given as.
    """
    whole = str(absolute(path_of(path, name)))
    for character in whole:
        if character in _WILDCARDS or unicodedata.category(character) in _UNPRINTED:
            raise UsageError(
                f"{name} is {whole!r}, which has {character!r}; allowed: any text without [ ] * ? \\ and control "
                "characters, as in the name of a symbolic link to it"
            )


@contextlib.contextmanager
def replacing(path: epath.PathLike) -> Iterator[epath.Path]:
    """Yields another name beside `path`. The file or folder that the block writes there replaces `path` at its end.

    If the block raises, what it wrote is removed and `path` stays as it was. A folder replaces nothing or an empty one.
    Creates the folder around, as `check_place` allows one that is not there. On remote storage a file appears when it
    is whole, and renaming is a copy: there `path` itself is yielded. Raises UsageError for a device and the like, as
    root could replace /dev/null by a file.
    """
    path = epath.Path(path)
    if is_remote(path):
        yield path
        return
    if kind(path) not in ("", "a file", "a folder"):
        raise UsageError(f"{path} is {kind(path)}; allowed: a file or a folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        yield part
        os.replace(part, path)  # epath's would refuse an empty folder
    except OSError as error:
        if error.filename is None:  # as of a disk that is full while an open file is written
            error.filename = str(path)
        raise
    finally:
        if part.is_dir():
            part.rmtree()
        else:
            part.unlink(missing_ok=True)


def write(path: epath.PathLike, data: bytes) -> None:
    """Writes a file whole or not at all, so that an interrupted run leaves no half of it; see `replacing`."""
    with replacing(path) as part:
        part.write_bytes(data)


@contextlib.contextmanager
def alone(folder: epath.PathLike) -> Iterator[None]:
    """Within the block no other process may enter the same folder: two runs would delete each other's checkpoints.

    Creates the folder, and removes it again if it is empty in the end. Does nothing on remote storage, where there are
    no locks. Raises UsageError if another process is in it and does not leave it within `PATIENCE_SECONDS`.
    """
    with _held(folder, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def among(folder: epath.PathLike, name: str) -> Iterator[None]:
    """As `alone`, but within the block processes may enter the same folder that are among others by other names."""
    with _held(folder, fcntl.LOCK_SH), _held(epath.Path(folder) / f".{name}", fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _held(folder: epath.PathLike, lock: int) -> Iterator[None]:
    if is_remote(folder):
        yield
        return
    folder = epath.Path(folder)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, made)
        try:
            # A file in the folder could be deleted, and another one of its name locked once more.
            _lock(os.open(folder, os.O_RDONLY), folder, stack, lock)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            _lock(os.open(folder / ".lock", os.O_RDWR | os.O_CREAT), folder, stack, lock)  # NFS locks no folders
        yield


def _remove_empty(folders: Iterable[epath.Path]) -> None:
    """Removes folders up to the first one that is not empty."""
    for path in folders:
        if any(path.iterdir()):
            break
        path.rmdir()


def _lock(descriptor: int, folder: epath.Path, stack: contextlib.ExitStack, lock: int) -> None:
    """Locks an open file or folder until the stack is closed or the process ends, waiting as `alone` says."""
    stack.callback(os.close, descriptor)
    end, told = time.monotonic() + PATIENCE_SECONDS, False
    while True:
        try:
            fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= end:
                raise UsageError(
                    f"workdir {folder} is in use by another run, "
                    f"which did not end within {PATIENCE_SECONDS} s; allowed: one run at a time"
                ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):  # a file system without locks
                raise
            return
        if not told:
            say(f"workdir {folder} is in use by another run; waiting up to {PATIENCE_SECONDS} s for it to end")
            told = True
        time.sleep(_POLL_SECONDS)


def check_place(path: epath.PathLike, name: str, *, folder: bool) -> None:
    """Raises UsageError or RunError unless a file or a folder of files can be written at `path`. Leaves nothing behind.

    To be called before the work whose results go there. `name` is the option that gave the path. A file is written
    below another name, as root may write anywhere by its rights, and still not on a mount that is read-only, to /proc
    or to a disk that is full.
    """
    path = path_of(path, name)
    if is_remote(path):  # whether it is writable shows only when it is written
        return
    wanted = ("a file", "a folder")[folder]
    with writing(f"{name} {path}", path):
        if kind(path) not in ("", wanted):
            raise UsageError(f"{name} {path} is {kind(path)}; allowed: {wanted}")
        missing, place = ([], path) if folder else ([path.name], path.parent)
        while not kind(place):
            missing, place = [place.name, *missing], place.parent
        if kind(place) != "a folder":
            raise UsageError(f"{name} {path} cannot be written: {place} is {kind(place)}")
        with (
            writing(f"{name} {path}", place),
            tempfile.TemporaryDirectory(prefix=".", dir=place) as trial,
        ):
            write(epath.Path(trial, *missing, *["file"] * folder), b"\n")


def check_files(folder: epath.PathLike, names: Iterable[str], name: str) -> None:
    """Raises UsageError where something else than a file stands in the place of a file of a folder that is written.

    It would be taken for the file, or found when all the work is done. `name` is what the folder was given as.
    """
    if is_remote(folder):
        return
    for path in (epath.Path(folder) / file for file in names):
        if kind(path) not in ("", "a file"):
            raise UsageError(f"{name} {path} is {kind(path)}; allowed: a file")


@contextlib.contextmanager
def writing(culprit: str, place: epath.PathLike) -> Iterator[None]:
    """Turns errors of the file system into one line: RunError where the machine fails (a full disk), or UsageError."""
    try:
        yield
    except OSError as error:
        failure = RunError if error.errno in OF_MACHINE else UsageError
        raise failure(f"{culprit} cannot be written: {place}: {error.strerror or error}") from error


def claim(folder: epath.PathLike, names: Iterable[str]) -> None:
    """Prepares `folder` for a set of files: removes files of the previous set that the new one does not replace.

    `files.txt` in the folder lists the previous set and is rewritten; files that it does not list are never removed.
    """
    folder, names = epath.Path(folder), sorted(names)
    check_files(folder, [LIST], "file")
    listed = folder / LIST
    if listed.is_file():
        for name in set(listed.read_text().splitlines()) - set(names):
            if epath.Path(name).name == name:  # a file in this folder, whatever the list says
                (folder / name).unlink(missing_ok=True)
    write(listed, "".join(f"{name}\n" for name in names).encode())
