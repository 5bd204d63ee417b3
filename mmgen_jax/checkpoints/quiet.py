"""Silences what Orbax prints of its own accord: hundreds of lines about failures that the caller reports in one."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

_LOGGERS = ("absl", "asyncio")


def _of_orbax(record: logging.LogRecord) -> bool:
    """True for error records of Orbax and of its abandoned asyncio tasks, and for its warning that a save waited."""
    if record.levelno >= logging.ERROR:
        return "orbax" in record.pathname or "never retrieved" in str(record.msg)
    # The report of a run tells a slow disk, by the time spent on checkpoints.
    return str(record.msg).startswith("Waiting for previous save")


@contextlib.contextmanager
def orbax() -> Iterator[None]:
    """Silences Orbax and its threads within the block, and for good after a failure in it; errors are still raised."""
    hook, loggers = sys.unraisablehook, [logging.getLogger(name) for name in _LOGGERS]

    def unraisable(event) -> None:
        # After the first failure Orbax abandons its requests, and threads of TensorStore still answer them.
        if str(event.exc_value) != "Event loop is closed":
            hook(event)

    def told(record: logging.LogRecord) -> bool:
        return not _of_orbax(record)

    sys.unraisablehook = unraisable
    for logger in loggers:
        logger.addFilter(told)
    yield  # there is no `finally`, as threads print for a while after a failure and the filters must stay
    sys.unraisablehook = hook
    for logger in loggers:
        logger.removeFilter(told)
