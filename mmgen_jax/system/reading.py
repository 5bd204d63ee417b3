"""Opens files for reading: regular files only, as reading a FIFO or a device may wait for ever or never end."""

from __future__ import annotations

import json
from typing import Any

from etils import epath

from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError


def regular(path: epath.PathLike, name: str = "", allowed: str = "a file") -> epath.Path:
    """The path, if it is a file; links are followed. Raises UsageError for a missing one, a folder, FIFO or device.

    The error calls it by `name`, or else by its path, and says what is `allowed`.
    """
    name = name or str(path)
    path = files.path_of(path, name)
    if files.is_remote(path):  # where there are only files and folders
        if path.is_dir():
            raise UsageError(f"{name} is a folder; allowed: {allowed}")
        if not path.exists():
            raise UsageError(f"{name}: no such file; allowed: {allowed}")
        return path
    found = files.kind(path)
    if not found:
        raise UsageError(f"{name}: no such file; allowed: {allowed}")
    if found != "a file":
        raise UsageError(f"{name} is {found}; allowed: {allowed}")
    return path


def contents(path: epath.PathLike) -> bytes:
    """The bytes of a file; raises UsageError as `regular` does."""
    return regular(path).read_bytes()


def text(path: epath.PathLike) -> str:
    """The text of a file. Raises UsageError as `regular` does, and for bytes that are not UTF-8."""
    return decoded(contents(path), path)


def decoded(data: bytes, source: object) -> str:
    """The text that bytes are in UTF-8, without the mark that some editors write first. Raises UsageError."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{source} is damaged or not a text in UTF-8 ({error})") from error


def parse_json(data: bytes | str, source: object, kind: type = dict) -> Any:
    """The value of type `kind` that some JSON says. Raises UsageError, naming `source`, for anything else."""
    words = decoded(data, source) if isinstance(data, bytes) else data
    try:
        found = json.loads(words)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{source} is damaged or not JSON ({error})") from error
    if not isinstance(found, kind):
        raise UsageError(f"{source} is JSON of the type {type(found).__name__}; allowed: {kind.__name__}")
    return found


def json_file(path: epath.PathLike) -> dict:
    """The object that a JSON file holds. Raises UsageError for a file that is missing, or that holds anything else."""
    return parse_json(contents(path), path)
