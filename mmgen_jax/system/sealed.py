"""Checksums of the files that a model or a data set consists of. Without them a flipped bit is read as a number.

They are beside these files in `SHA256SUMS`, which `sha256sum --check SHA256SUMS` reads and `sha256sum FILES` writes.
Checkpoints, which several processes write, have manifests of their own; records of data sets have checksums inside.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
from collections.abc import Iterable, Iterator

from etils import epath

from mmgen_jax.system import files, reading
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@contextlib.contextmanager
def sealing(folder: epath.PathLike, names: Iterable[str]) -> Iterator[None]:
    """Surrounds the writing of files into a folder, and then notes the checksums of those of `names` that are there.

    Other files keep theirs. An interruption leaves the folder without checksums, never with wrong ones.
    """
    folder, names = epath.Path(folder), list(names)
    kept = {name: total for name, total in (_listed(folder) or {}).items() if name not in names}
    (folder / FILE).unlink(missing_ok=True)
    yield
    sums = {name: _sha256(reading.contents(folder / name)) for name in names if (folder / name).exists()}
    lines = [f"{total}  {name}\n" for name, total in sorted((kept | sums).items())]
    files.write(folder / FILE, "".join(lines).encode())


def read(path: epath.PathLike) -> bytes:
    """The bytes of a file, compared with their checksum; where the folder has none, one line says so.

    Raises UsageError for a file that is missing, that has another checksum, or that the folder's checksums leave out.
    """
    path = epath.Path(path)
    data = reading.contents(path)
    listed = _listed(path.parent)
    if listed is None:
        _tell(path.parent)
    elif path.name not in listed:
        raise UsageError(f"{path.parent / FILE} does not list {path.name}; {_way_out(path)}")
    elif listed[path.name] != _sha256(data):
        raise UsageError(f"{path} is damaged: its SHA-256 is not the one in {FILE}; {_way_out(path)}")
    return data


def expects(path: epath.PathLike) -> bool:
    """Whether a file that a folder may lack is there, or was when its checksums were written."""
    path = epath.Path(path)
    return path.exists() or path.name in (_listed(path.parent) or {})


def _way_out(path: epath.Path) -> str:
    return f"copy {path.parent} again, or remove {FILE} if it was changed on purpose"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _listed(folder: epath.Path) -> dict[str, str] | None:
    """Name -> checksum of the files that a folder's checksums list; None if it has no checksums."""
    path = folder / FILE
    if not path.exists():
        return None
    lines = reading.text(path).split("\n")
    found = [match for line in lines[:-1] if (match := _LINE.fullmatch(line))]
    if lines[-1] or len(found) != len(lines) - 1:
        raise UsageError(f"{path} is damaged: it has a line that sha256sum does not write; {_way_out(path)}")
    return {match[2]: match[1] for match in found}


@functools.cache
def _tell(folder: epath.Path) -> None:
    """Says once of each folder that it has no checksums."""
    say(f"{folder} has no {FILE}: damage to its files would not be noticed")
