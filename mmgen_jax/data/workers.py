"""Reading processes. They ignore signals, which are meant for the process that they read for, and end with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker

from mmgen_jax.system import preemption

# Grain leaves a batch in shared memory when a worker ends. Python's tracker deletes it and warns, which helps nobody.
_NO_WARNING = "ignore:resource_tracker:UserWarning"


def _start_tracker() -> None:
    sys.warnoptions.append(_NO_WARNING)
    resource_tracker.ensure_running()
    sys.warnoptions.remove(_NO_WARNING)


@contextlib.contextmanager
def shielded() -> Iterator[None]:
    """Processes that start within the block never get requests to stop. This process gets them after the block.

    A terminal sends Ctrl-C to all processes at once, and a machine that shuts down sends SIGTERM to all. If workers
    ended at once, training could not finish its step and save.
    """
    _start_tracker()  # started first, as starting it unblocks the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, preemption.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(index: int, count: int) -> None:
    """Lets a worker end with its parent; call it first in each worker.

    A worker whose parent was killed would otherwise wait forever to hand over its batch.
    """
    del index, count
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
