"""Waiting for the next batch: it can be interrupted, it has an end, and it says why no batch comes."""

from __future__ import annotations

import multiprocessing
import queue
import re
import signal
import threading
from collections.abc import Iterator

from mmgen_jax.data.pipeline import Batch, Batches
from mmgen_jax.system import preemption
from mmgen_jax.system.errors import ReadingLost

_ENDED = re.compile(r"terminated unexpectedly with exit code (-?\d+)")  # Grain's words
_CLOSE_SECONDS = 5  # how long a thread may take to end when it is asked to


class Waiting(Iterator[Batch]):
    """The same batches, each read by a thread when it is asked for; close it after use.

    The main thread only waits, so that Python can run its handlers of signals, which may raise.
    """

    def __init__(self, batches: Batches, seconds: float):
        """`seconds`: how long to wait for one batch; raises ReadingLost after that, or if a reading process ended."""
        self._batches, self._seconds = batches, seconds
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="read", daemon=True)
        self._thread.start()

    def __next__(self) -> Batch:
        self._asked.put(True)
        try:
            answer = self._answers.get(timeout=self._seconds)
        except queue.Empty:
            raise ReadingLost(
                f"no batch came for {self._seconds:g} s, which config key data.timeout allows: "
                "the storage or a reading process hangs; the same command continues"
            ) from None
        if isinstance(answer, BaseException):
            raise self._told(answer)
        return answer

    def close(self) -> None:
        """Ends reading, also where it hangs: then the reading processes are killed."""
        self._asked.put(False)
        self._thread.join(_CLOSE_SECONDS)
        if self._thread.is_alive():
            for child in multiprocessing.active_children():
                child.kill()
            self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():  # else nothing can end it but the end of the process
            self._batches.close()

    def _read(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, preemption.SIGNALS)  # they are the main thread's
        while self._asked.get():
            try:
                self._answers.put(next(self._batches))
            except BaseException as error:  # raised in the main thread
                self._answers.put(error)

    def _told(self, error: BaseException) -> BaseException:
        """The error to raise for what reading raised."""
        found = _ENDED.search(str(error))
        if not found:
            return error
        code = int(found[1])
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        memory = ", which the system sends when memory is short" if -code == signal.SIGKILL else ""
        return ReadingLost(f"a reading process (data.workers) {how}{memory}; the same command continues")
