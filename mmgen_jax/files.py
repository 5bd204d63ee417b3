"""Files that are whole or not there."""

from __future__ import annotations

import os

from etils import epath


def write(path: epath.PathLike, data: bytes) -> None:
    """Writes a file under another name and renames it, so that an interrupted run leaves no half of it."""
    path = epath.Path(path)
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
