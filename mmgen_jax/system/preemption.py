"""Handles requests to stop: SIGTERM, which machines send before they are taken away, and Ctrl-C.

Several processes all stop at the same step: when one receives SIGTERM, JAX's preemption service tells the others. The
service has its own handler of this signal, so no Python handler for it may be installed then.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

from mmgen_jax.system.errors import EXIT_INTERRUPTED, EXIT_RESTART

EXIT_CODES: dict[int, int] = {signal.SIGTERM: EXIT_RESTART, signal.SIGINT: EXIT_INTERRUPTED}


@contextlib.contextmanager
def requests() -> Iterator[Callable[[], int]]:
    """Within the block, a signal only makes the yielded function return its number; otherwise it returns 0.

    Every process must call the function after every step.
    """
    shared, received = jax.distributed.is_initialized(), [0]
    calls = itertools.count(1)  # the service names one of these calls; 1 is the first, also for earlier signals

    def note(number: int, _frame) -> None:
        received[0] = number
        if shared:
            os.kill(os.getpid(), signal.SIGTERM)  # the service knows only this one

    def requested() -> int:
        if shared:
            reached = multihost_utils.reached_preemption_sync_point(next(calls))
            return (received[0] or signal.SIGTERM) if reached else 0
        return received[0]

    handled = (signal.SIGINT,) if shared else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, note) for number in handled}
    try:
        yield requested
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
