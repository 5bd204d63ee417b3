"""Checksums of the files of a checkpoint. Without them, an array with a flipped bit is read without any error.

Each process lists its share of the files, with size and SHA-256, in its own manifest in the folder of the checkpoint.
The checkpoint is sealed when the manifests of all processes are there.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from etils import epath

from mmgen_jax.system import files

_NAME = "sha256-{:05d}-of-{:05d}.json"
_PATTERN = re.compile(r"sha256-(\d{5})-of-(\d{5})\.json")
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


def _contents(folder: epath.Path) -> list[str]:
    """Sorted paths of the files in a folder, without manifests and without remains of unfinished manifests."""
    found, waiting = [], [folder]
    while waiting:
        for path in waiting.pop().iterdir():
            if path.is_dir():
                waiting.append(path)
            else:
                found.append(str(path.relative_to(folder)))
    return sorted(name for name in found if "sha256-" not in name)


def write_manifest(folder: epath.PathLike, loss: float | None = None, process: int = 0, processes: int = 1) -> None:
    """Writes this process's manifest of a complete checkpoint. Each file is read by one of the processes only."""
    folder = epath.Path(folder)
    mine = _contents(folder)[process::processes]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        sums = list(pool.map(lambda name: _sha256(folder / name), mine))
    listed = {name: [(folder / name).stat().length, total] for name, total in zip(mine, sums, strict=True)}
    text = json.dumps({"loss": loss, "files": listed}, indent=1) + "\n"
    files.write(folder / _NAME.format(process, processes), text.encode())


def _manifests(folder: epath.Path) -> list[epath.Path]:
    """Paths of the manifests if all of them are there, else an empty list.

    Manifests that were written by different numbers of processes do not count together.
    """
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
            stored = json.loads(path.read_text())
            loss = stored["loss"]
            listed |= {name: (int(size), str(total)) for name, (size, total) in stored["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damage(f"{path.name} cannot be read ({type(error).__name__})") from error
    return Seal(listed, loss) if paths else None


def check(folder: epath.PathLike, seal: Seal, process: int = 0, processes: int = 1) -> None:
    """Raises Damage for the first file, among this process's share of the files, that is not as it was written."""
    folder = epath.Path(folder)
    mine = sorted(seal.files)[process::processes]

    def problem(name: str) -> str:
        size, total = seal.files[name]
        path = folder / name
        if not path.exists():
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
