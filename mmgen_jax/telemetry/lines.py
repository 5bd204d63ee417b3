"""Append-only text files, emulated on object stores (gs://), which cannot append."""

from __future__ import annotations

import os
import time

from etils import epath

from mmgen_jax.system import files, reading

_SECONDS = 60.0


def _cut_rest(path: epath.Path) -> None:
    """Cuts off an incomplete last line, which a crash or a full disk may have left behind."""
    if path.exists():
        data = reading.contents(path)
        if not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)


class Lines:
    """Appends lines to a file after its last complete line, and flushes each at once. The file may exist already.

    Files in a bucket (gs://) cannot be appended to; opening one to append empties it. For these, all lines are kept in
    memory, and the whole file is written anew at the end and at most once a minute. A killed run loses the lines of its
    last minute.
    """

    def __init__(self, path: epath.PathLike, seconds: float = _SECONDS):
        self._path, self._seconds = epath.Path(path), seconds
        self._remote = files.is_remote(path)
        if self._remote:
            self._text = self._path.read_text() if self._path.exists() else ""
            self._written, self._mark = len(self._text), time.monotonic()
        else:
            _cut_rest(self._path)
            self._file = self._path.open("a")

    def write(self, line: str) -> None:
        """Appends `line`, given without its newline."""
        if not self._remote:
            self._file.write(line + "\n")
            self._file.flush()
            return
        self._text += line + "\n"
        if time.monotonic() - self._mark >= self._seconds:
            self._store()

    def close(self) -> None:
        if self._remote:
            self._store()
        else:
            self._file.close()

    def _store(self) -> None:
        if len(self._text) > self._written:
            self._path.write_text(self._text)
            self._written = len(self._text)
        self._mark = time.monotonic()
