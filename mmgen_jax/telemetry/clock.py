"""Measures where the time of a loop goes: the wall-clock seconds of each named phase."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Iterator


class Clock:
    """Measures the seconds spent in each phase since the last `lap`, and since the start.

    Phases of the training loop:
      data: waiting for the next batch.
      compile: calling the first step, which compiles it.
      dispatch: handing a step to the devices, which compute it meanwhile.
      device: waiting until the devices have finished the step before, whose metrics are then read.
      metrics: computing means of metrics and writing them to files and as lines.
      profile: starting and writing a trace.
      checkpoint: starting a save, and waiting for the save before it.
      preview: sampling and writing pictures.
      scores: scoring held-out scenes.
    """

    def __init__(self) -> None:
        self._lap: dict[str, float] = defaultdict(float)
        self._total: dict[str, float] = defaultdict(float)
        self._since: dict[str, float] = {}  # start times of the phases that are going on
        self._start = self._mark = time.perf_counter()

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        self._since[phase] = time.perf_counter()
        try:
            yield
        finally:
            self._lap[phase] += time.perf_counter() - self._since.pop(phase)

    def lap(self) -> dict[str, float]:
        """Returns the seconds of each phase since the last call, and as "whole" all seconds since then."""
        now = time.perf_counter()
        for phase, since in self._since.items():
            self._lap[phase] += now - since
            self._since[phase] = now
        seconds, whole = dict(self._lap), now - self._mark
        for phase, value in seconds.items():
            self._total[phase] += value
        self._lap.clear()
        self._mark = now
        return seconds | {"whole": whole}

    def total(self) -> dict[str, float]:
        """Returns the seconds of each phase since the start, and as "whole" all seconds since then."""
        phases = self._total.keys() | self._lap.keys()
        seconds = {phase: self._total.get(phase, 0.0) + self._lap.get(phase, 0.0) for phase in phases}
        return seconds | {"whole": time.perf_counter() - self._start}


def per_step(seconds: dict[str, float], steps: int) -> dict[str, float]:
    """Turns the seconds of a lap into milliseconds per step; `host_ms` is the host's work without waits and saves."""
    values = {f"time/{phase}_ms": 1e3 * value / steps for phase, value in sorted(seconds.items()) if phase != "whole"}
    host = seconds.get("dispatch", 0.0) + seconds.get("metrics", 0.0)
    return values | {"time/step_ms": 1e3 * seconds["whole"] / steps, "time/host_ms": 1e3 * host / steps}
