"""Requests to stop: what machines, schedulers and terminals send before they take a process away.

Several processes all stop at the same step: when one receives SIGTERM, JAX's preemption service tells the others. The
service has its own handler of this signal, so no Python handler for it may be installed then.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from mmgen_jax.system.errors import EXIT_INTERRUPTED, EXIT_RESTART

# Ctrl-C and Ctrl-\, a machine that shuts down, a lost terminal or ssh connection, and SLURM's warnings.
SIGNALS = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)


class StopRequested(Exception):
    """A signal that came while `Requests.interruptible` allowed it to interrupt."""


class Requests:
    """The signals of one process, and of those that share its run.

    Attributes:
      received: number of the last signal that this process got; 0 = none.
    """

    def __init__(self) -> None:
        self._shared = jax.distributed.is_initialized()
        # The service names one of the calls of `agreed`; 1 is the first, also for earlier signals.
        self._calls = itertools.count(1)
        self._waiting = False
        self.received = 0

    def note(self, number: int, _frame: object = None) -> None:
        """The handler of all signals."""
        self.received = number
        if self._shared:
            os.kill(os.getpid(), signal.SIGTERM)  # the service knows only this one
        elif self._waiting:
            self._waiting = False  # once: what is done then must not be interrupted by further signals
            raise StopRequested

    def agreed(self) -> int:
        """The signal by which all processes stop now, else 0. All must call it after every step."""
        if self._shared:
            reached = multihost_utils.reached_preemption_sync_point(next(self._calls))
            return (self.received or signal.SIGTERM) if reached else 0
        return self.received

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within the block a signal raises StopRequested, at once where it came before.

        Not where several processes share a run: none can save alone.
        """
        self._waiting = not self._shared
        try:
            if self._waiting and self.received:
                raise StopRequested
            yield
        finally:
            self._waiting = False


def exit_code(number: int) -> int:
    """What a process that stopped by this signal ends with."""
    return EXIT_INTERRUPTED if number == signal.SIGINT else EXIT_RESTART


@contextlib.contextmanager
def requests() -> Iterator[Requests]:
    """Within the block the signals are only noted. After it, where one has come, further ones do nothing."""
    requested = Requests()
    before = {}
    for number in SIGNALS:
        if number == signal.SIGTERM and jax.distributed.is_initialized():
            continue
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # as nohup wants it
        before[number] = signal.signal(number, requested.note)
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if requested.received else handler)
