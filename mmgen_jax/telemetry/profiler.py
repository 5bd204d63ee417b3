"""Writes profiler traces of steps that were named on the command line or asked for while a run is going on."""

from __future__ import annotations

import jax
from etils import epath

from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

FOLDER = "profile"
REQUEST = "PROFILE"  # a file of this name in the workdir asks for a trace
REQUESTED_STEPS = 5


def parse(text: str) -> tuple[int, int] | None:
    """Parses "10:15" as (10, 15) and "" as None; raises UsageError for any other text."""
    if not text:
        return None
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise UsageError(f"--profile is {text!r}; it must be FIRST:LAST, two steps of which the first is at least 1")
    return int(first), int(last)


def check(steps: tuple[int, int] | None, first: int, last: int) -> None:
    """Raises UsageError if the steps to trace come after those that a run is about to make.

    Steps that were made before are not an error, since the same command continues a run after an interruption.
    """
    if steps and steps[1] > last:
        raise UsageError(f"--profile is {steps[0]}:{steps[1]}; this run makes steps {first} to {last}")
    if steps and steps[1] < first:
        say(f"no trace of steps {steps[0]} to {steps[1]}, which --profile asks for: they were made before")


class Profiler:
    """Writes traces to `workdir`/profile. One process of a run writes them, as all hosts do the same work."""

    def __init__(self, workdir: epath.PathLike, steps: tuple[int, int] | None):
        self._workdir = epath.Path(workdir)
        self._wanted = [range(steps[0], steps[1] + 1)] if steps else []
        self._tracing = False

    def _wants(self, step: int) -> bool:
        return any(step in steps for steps in self._wanted)

    def before(self, step: int) -> None:
        """Begins a trace if `step` is to be traced; call it before every step."""
        if self._wants(step) and not self._tracing:
            jax.profiler.start_trace(str(self._workdir / FOLDER))
            self._tracing = True

    def ends(self, step: int) -> bool:
        """Whether `step` is the last one to trace. If so, wait until it is finished and then call `close`."""
        return self._tracing and not self._wants(step + 1)

    def close(self) -> None:
        """Ends a trace that is going on, and writes it."""
        tracing, self._tracing = self._tracing, False
        if tracing:
            jax.profiler.stop_trace()

    def look(self, step: int) -> None:
        """Looks for the file that asks for a trace; if it is there, deletes it and traces the steps after `step`."""
        request = self._workdir / REQUEST
        if not self._tracing and request.is_file():  # a file system may take the folder for it
            request.unlink()
            self._wanted.append(range(step + 1, step + 1 + REQUESTED_STEPS))
            say(f"tracing steps {step + 1} to {step + REQUESTED_STEPS}, as the file {REQUEST} asks")
