"""What libraries print of failures that we tell in one line: hundreds of lines, from threads that cannot be caught."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

_LOGGERS = ("absl", "asyncio")


def _of_orbax(record: logging.LogRecord) -> bool:
    """Whether Orbax, or a task of its that nobody waited for, tells of an error."""
    return record.levelno >= logging.ERROR and ("orbax" in record.pathname or "never retrieved" in str(record.msg))


@contextlib.contextmanager
def orbax() -> Iterator[None]:
    """Within the block, and for good after a failure in it, Orbax and its threads say nothing: errors are raised."""
    hook, loggers = sys.unraisablehook, [logging.getLogger(name) for name in _LOGGERS]

    def unraisable(event) -> None:
        # Threads of TensorStore answer requests that Orbax gave up at the first failure.
        if str(event.exc_value) != "Event loop is closed":
            hook(event)

    def told(record: logging.LogRecord) -> bool:
        return not _of_orbax(record)

    sys.unraisablehook = unraisable
    for logger in loggers:
        logger.addFilter(told)
    yield  # what comes after a failure comes late
    sys.unraisablehook = hook
    for logger in loggers:
        logger.removeFilter(told)
