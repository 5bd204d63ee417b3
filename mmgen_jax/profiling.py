"""Profiler traces on demand: of steps named on the command line, or while a run goes on."""

from __future__ import annotations

import jax
from etils import epath

from mmgen_jax.errors import UsageError

FOLDER = "profile"
REQUEST = "PROFILE"  # a file of this name in the workdir asks for a trace
REQUESTED_STEPS = 5


def parse(text: str) -> tuple[int, int] | None:
    """ "10:15" -> (10, 15), "" -> None; raises UsageError."""
    if not text:
        return None
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UsageError(f"--profile is {text!r}; it must be FIRST:LAST, two steps of which the first is at least 1")
    return int(first), int(last)


def check(steps: tuple[int, int] | None, first: int, last: int) -> None:
    """Raises UsageError if the steps to trace are not among those that a run is about to make."""
    if steps and not (first <= steps[0] and steps[1] <= last):
        raise UsageError(f"--profile is {steps[0]}:{steps[1]}; this run makes steps {first} to {last}")


class Profiler:
    """Writes traces into `workdir`/profile. One process of a run is enough: a host tells what all do."""

    def __init__(self, workdir: epath.PathLike, steps: tuple[int, int] | None):
        self._workdir = epath.Path(workdir)
        self._steps = steps
        self._tracing = False

    def before(self, step: int) -> None:
        """To be called before each step."""
        if self._steps and step == self._steps[0]:
            jax.profiler.start_trace(str(self._workdir / FOLDER))
            self._tracing = True

    def ends(self, step: int) -> bool:
        """Whether this is the last step to trace: finish it before calling `stop`."""
        return self._tracing and step == self._steps[1]

    def stop(self) -> bool:
        """Ends a trace that is going on; returns whether there was one."""
        tracing, self._tracing = self._tracing, False
        if tracing:
            jax.profiler.stop_trace()
        return tracing

    def look(self, step: int) -> bool:
        """After `step`: is a trace asked for by a file? It is then deleted, and the next steps are traced."""
        if self._tracing or not (self._workdir / REQUEST).exists():
            return False
        (self._workdir / REQUEST).unlink()
        self._steps = (step + 1, step + REQUESTED_STEPS)
        return True
