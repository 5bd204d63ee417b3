"""Prints what a user reads while something runs: lines, and the one progress meter. It imports nothing heavy."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from mmgen_jax.system.errors import printable

T = TypeVar("T")

_SECONDS = {True: 0.5, False: 60.0}  # between two lines of a meter: on a terminal, and in logs


def duration(seconds: float) -> str:
    """Formats seconds as 1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _speaks() -> bool:
    """True on the first of several processes. Without JAX there is only one; no device is initialised to find out."""
    jax = sys.modules.get("jax")
    return jax is None or not jax.distributed.is_initialized() or jax.process_index() == 0


def say(text: str) -> None:
    """Prints one line to the user, without delay. Of several processes only the first one prints."""
    if _speaks():
        say_here(text)


def say_here(text: str) -> None:
    """Prints one line on whichever process calls it, for facts that only this process knows."""
    print(printable(text), file=sys.stdout, flush=True)


class Progress:
    """Prints to stderr, now and then, how much is done, how fast, and how long the rest will take.

    On a terminal it is one line that changes. Elsewhere, as in logs and pipes, it is a line a minute, and nothing of
    what takes less.
    """

    def __init__(self, label: str, total: float, unit: str):
        """`total` and what is added are numbers of `unit`, for instance "samples"."""
        self._label, self._total, self._unit, self._done = label, total, unit, 0.0
        self._start = self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Yields the items, and counts each of them when the next one is asked for."""
        for item in items:
            yield item
            self()

    def __call__(self, count: float = 1) -> None:
        """Adds `count` to what is done."""
        self._done += count
        now, finished = time.monotonic(), self._done >= self._total
        ends = finished and (self._terminal or self._said > self._start)
        if not ends and now - self._said < _SECONDS[self._terminal]:
            return
        self._said, rate = now, self._done / max(now - self._start, 1e-9)
        left = duration(max(self._total - self._done, 0) / rate)
        speed = f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"
        line = f"{self._label} {self._done:.10g}/{self._total:.10g}  {speed} {self._unit}/s  left {left}"
        if _speaks():
            print(line.ljust(60), end="\r" if self._terminal and not finished else "\n", file=sys.stderr, flush=True)
