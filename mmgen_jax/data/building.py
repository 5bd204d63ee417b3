"""Code that all builders of tiles share: work in several processes, and data sets that are complete or absent."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator

import tensorflow_datasets as tfds
from absl import logging

from mmgen_jax.data import description
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError

MOST_WORKERS = 256


class Mapper:
    """Maps a function over jobs, in this process or in several; results come in the order of the jobs."""

    def __init__(self, workers: int):
        # "spawn", as a forked process would copy locks that threads hold, but not these threads.
        self._pool = multiprocessing.get_context("spawn").Pool(workers) if workers > 1 else None

    def __enter__(self) -> Callable[[Callable, list], Iterator]:
        return self._pool.imap if self._pool else map

    def __exit__(self, *_):
        if self._pool:
            self._pool.terminate()


def check_workers(workers: int) -> None:
    if not 1 <= workers <= MOST_WORKERS:
        raise UsageError(f"workers is {workers}; allowed: 1 to {MOST_WORKERS}")


def prepare(builder: tfds.core.DatasetBuilder) -> None:
    """Writes a data set and its checksums.

    An interruption leaves nothing behind, as TFDS renames the folder when all is written. Raises UsageError for a path
    that TFDS cannot take.
    """
    files.check_path(builder.data_path, "data directory")
    tfds.disable_progress_bar()
    # TFDS prints about downloads, but there are none.
    with tempfile.TemporaryDirectory() as unused, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=unused)
    description.seal(builder.data_path)


@contextlib.contextmanager
def command(folder: str, name: str) -> Iterator[None]:
    """Surrounds a command that writes a data set under `folder`: silences TFDS and turns errors into one line.

    Raises UsageError or RunError at once, which call the folder by `name`, where it cannot be written.
    """
    logging.set_verbosity(logging.ERROR)
    # A termination signal is handled like Ctrl-C, so that a half-written data set is removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    files.check_place(folder, name, folder=True)
    try:
        with files.writing(f"{name} {folder}", folder):
            yield
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was written", file=sys.stderr)
        sys.exit(130)
