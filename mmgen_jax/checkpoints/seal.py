"""Checksums of the files of a checkpoint. Without them, an array with a flipped bit is read without any error.

Each process lists its share of the files, with size and SHA-256, in its own manifest in the folder of the checkpoint.
The checkpoint is sealed when the manifests of all processes are there. A manifest has a checksum of its own entries,
and those of all processes together list every file.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from etils import epath

from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError

_NAME = "sha256-{:05d}-of-{:05d}.json"
_PATTERN = re.compile(r"sha256-(\d{5})-of-(\d{5})\.json")
_OWN = "sha256"  # name of a manifest's checksum of its other entries
_OLD = {"loss", "files"}  # entries of manifests from before they had one
_BLOCK = 1 << 22
_THREADS = 4  # threads compute checksums in parallel, as hashing releases Python's lock


@dataclass(frozen=True)
class Seal:
    """The contents of all manifests of one checkpoint.

    Attributes:
      files: path in the folder -> (size in bytes, SHA-256).
      loss: the loss that the checkpoint was saved with, or None.
    """

    files: dict[str, tuple[int, str]]
    loss: float | None


class Damage(Exception):
    """A file of a checkpoint is not as it was written. The message says which file, and how it differs."""


def _sha256(path: epath.Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def contents(folder: epath.PathLike) -> list[str]:
    """Sorted paths of the files in the folder of a checkpoint, without manifests, and without hidden files.

    Hidden files are not Orbax's: systems leave them behind, and interrupted writes. Raises Damage for a link or device.
    """
    folder = epath.Path(folder)
    found, waiting = [], [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            name = str(path.relative_to(folder))
            if path.name.startswith(".") or _PATTERN.fullmatch(name):
                continue
            if _is_folder(path):
                waiting.append(path)
            else:
                found.append(name)
    return sorted(found)


def _is_folder(path: epath.Path) -> bool:
    """False for a file. Raises Damage for anything else: a link, of which nobody has sums, or what is read forever."""
    if files.is_remote(path):
        return path.is_dir()
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise Damage(f"{path.name} is neither a file nor a folder")
    return stat.S_ISDIR(mode)


def _sum_of(entries: dict[str, Any]) -> str:
    """SHA-256 of the entries of a manifest."""
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: epath.PathLike, loss: float | None = None, process: int = 0, processes: int = 1) -> None:
    """Writes this process's manifest of a complete checkpoint. Each file is read by one of the processes only."""
    folder = epath.Path(folder)
    mine = contents(folder)[process::processes]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        sums = list(pool.map(lambda name: _sha256(folder / name), mine))
    listed = {name: [(folder / name).stat().length, total] for name, total in zip(mine, sums, strict=True)}
    entries = {"step": folder.name, "loss": loss, "files": listed}
    text = json.dumps(entries | {_OWN: _sum_of(entries)}, indent=1) + "\n"
    files.write(folder / _NAME.format(process, processes), text.encode())


def _manifests(folder: epath.Path) -> list[epath.Path]:
    """Paths of the manifests if all of them are there, else an empty list.

    Manifests that were written by different numbers of processes do not count together.
    """
    if not folder.is_dir():
        return []
    found = {match[0]: match for path in folder.iterdir() if (match := _PATTERN.fullmatch(path.name))}
    for count in {int(match[2]) for match in found.values()}:
        names = [_NAME.format(i, count) for i in range(count)]
        if all(name in found for name in names):
            return [folder / name for name in names]
    return []


def is_sealed(folder: epath.PathLike) -> bool:
    return bool(_manifests(epath.Path(folder)))


def read_seal(folder: epath.PathLike) -> Seal | None:
    """Reads what the files of a checkpoint should be; None if it is not sealed. Raises Damage for a bad manifest."""
    listed: dict[str, tuple[int, str]] = {}
    loss: float | None = None
    paths = _manifests(epath.Path(folder))
    for path in paths:
        try:
            stored = _read_manifest(path)
            loss = stored["loss"]
            listed |= {name: (int(size), str(total)) for name, (size, total) in stored["files"].items()}
        except UsageError as error:
            raise Damage(str(error)) from error
        except (OSError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError) as error:
            raise Damage(f"{path.name} cannot be read ({type(error).__name__})") from error
    return Seal(listed, loss) if paths else None


def _read_manifest(path: epath.Path) -> dict[str, Any]:
    """The entries of a manifest. Raises Damage, or an error of any type, if they are not as they were written."""
    if _is_folder(path):
        raise Damage(f"{path.name} is a folder")
    stored = reading.parse_json(path.read_bytes(), path.name)
    if stored.keys() != _OLD:
        if stored.pop(_OWN) != _sum_of(stored):
            raise Damage(f"{path.name} has another checksum than when it was written")
        if stored["step"] != path.parent.name:
            raise Damage(f"{path.name} is of step {stored['step']}")
    if not isinstance(stored["loss"], int | float | None):
        raise Damage(f"{path.name} has a loss that is not a number")
    stored["loss"] = None if stored["loss"] is None else float(stored["loss"])
    return stored


def check(folder: epath.PathLike, seal: Seal, process: int = 0, processes: int = 1) -> None:
    """Raises Damage for a file that is not listed, and for the first one of this process's share that has changed."""
    folder = epath.Path(folder)
    for name in contents(folder):
        if name not in seal.files:
            raise Damage(f"{name} is not listed in its manifests")
    mine = sorted(seal.files)[process::processes]

    def problem(name: str) -> str:
        size, total = seal.files[name]
        path = folder / name
        if path.is_dir() or not path.exists():
            return f"{name} is missing"
        found = path.stat().length
        if found != size:
            return f"{name} has {found} bytes instead of {size}"
        return "" if _sha256(path) == total else f"{name} has another checksum than when it was written"

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        _raise_first(pool.map(problem, mine))


def _raise_first(problems: Iterable[str]) -> None:
    for text in problems:
        if text:
            raise Damage(text)
