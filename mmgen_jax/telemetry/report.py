"""Reports a run to the user, to files and to TensorBoard: rows of numbers, events, and a summary at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mmgen_jax.system.console import duration, say
from mmgen_jax.system.hosts import Silent
from mmgen_jax.telemetry import memory
from mmgen_jax.telemetry.clock import Clock, per_step
from mmgen_jax.telemetry.health import Health
from mmgen_jax.telemetry.progress import Progress
from mmgen_jax.telemetry.window import Monitor
from mmgen_jax.telemetry.writer import Writer


class Report:
    """Reports one run. The training loop calls it; all processes make the same calls.

    Attributes:
      clock: measures where the time of the loop goes; the loop names the phases.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        batch: int,
        step: int,
        position: Mapping[str, Any],
        writer: Writer | Silent,
        progress: Progress,
        damaged: Callable[[], int],
        max_skipped: int,
        spike_factor: float,
    ):
        """Starts to report after `step` steps; each step uses `batch` samples.

        Args:
          position: in the data after these steps, as a checkpoint keeps it: "samples" that were seen, and more.
          damaged: returns how many damaged records all processes have met.
          max_skipped: number of steps with numbers that are not finite after which the run stops.
          spike_factor: losses above this many times their recent median are reported.
        """
        self.clock = Clock()
        self._first, self._position, self._batch = step, dict(position), batch
        self._writer, self._progress, self._count_damaged = writer, progress, damaged
        self._summary = RunSummary(step, batch)
        self._health = Health(modalities, max_skipped, spike_factor, self._event)
        self._monitor = Monitor(modalities, self._health, self.clock)
        self._reported, self._damaged = step, 0

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of `step`, which may still be computed, and checks those of the step before.

        Raises RunError if training must stop, see `Health.check`.
        """
        self._summary.step = step
        self._monitor.add(step, metrics)

    def settle(self) -> None:
        """Waits until the last step is finished and checks its metrics. Raises RunError as `add` does."""
        self._monitor.settle()

    def row(self, step: int) -> dict[str, float]:
        """Prints, writes and returns the means over the steps since the last row, once a step; raises as `add` does."""
        self.settle()
        if step == self._reported:
            return {}
        with self.clock("metrics"):
            means = self._monitor.means()
            self._summary.note(step, means)
            self._damaged = self._count_damaged()
            seconds = self.clock.lap()
            text, rates = self._progress.line(step, means, seconds.get("compile", 0.0))
            say(text)
            times = per_step(seconds, step - self._reported)
            self._writer.scalars(step, means | {"damaged": self._damaged} | rates | times | memory.usage())
            self._reported = step
        return means

    def position(self, step: int) -> dict[str, Any]:
        """The position in the data after `step`, to be saved with its checkpoint; call `row` for this step first."""
        seen = self._position["samples"] + (step - self._first) * self._batch
        return self._position | {"step": step, "samples": seen, "damaged": self._damaged}

    def changes(self, changes: Mapping[str, tuple[object, object]]) -> None:
        """Prints and writes settings that differ from those of the last start: name -> (value before, value now)."""
        for name, (before, now) in changes.items():
            say(f"config key {name} is {now!r} from here on; it was {before!r}")
        if changes:
            self._writer.event(self._first, "settings", {"changes": changes})

    def close(self) -> None:
        """Prints and writes the summary of the run."""
        values = self._summary.values(self.clock.total(), self._health.skipped)
        for line in summary_lines(values):
            say(line)
        self._writer.event(self._summary.step, "summary", values)

    def _event(self, step: int, kind: str, values: Mapping[str, float | str]) -> None:
        told = (value if isinstance(value, str) else f"{key} {value:g}" for key, value in values.items())
        say(f"{kind} at step {step}: " + ", ".join(told))
        self._writer.event(step, kind, values)


class RunSummary:
    """Collects the summary of a run, which is printed however the run ends."""

    def __init__(self, first: int, batch: int):
        """`first` is the number of steps that were made before this process began."""
        self._first, self._batch = first, batch
        self.step = first  # the last step that was handed to the devices
        self._losses: dict[str, list[float]] = {}  # name -> [lowest mean, its step, last mean]

    def note(self, step: int, means: Mapping[str, float]) -> None:
        """Takes the mean metrics of the steps since the last call; the last of these is `step`."""
        for name, value in means.items():
            if name.startswith("loss"):
                best, at, _ = self._losses.get(name, (value, step, value))
                self._losses[name] = [value, step, value] if value < best else [best, at, value]

    def values(self, seconds: Mapping[str, float], skipped: int) -> dict[str, float | dict]:
        """Returns the summary as plain numbers, given the seconds of each phase as `Clock.total` returns them."""
        whole, steps = seconds["whole"], self.step - self._first
        return {
            "steps": steps,
            "samples": steps * self._batch,
            "seconds": whole,
            "steps_per_second": steps / whole,
            "samples_per_second": steps * self._batch / whole,
            "skipped": skipped,
            "shares": {phase: value / whole for phase, value in sorted(seconds.items()) if phase != "whole"},
            "losses": {name: {"best": b, "best_step": at, "last": c} for name, (b, at, c) in self._losses.items()},
        }


def summary_lines(values: Mapping) -> list[str]:
    """Lines of text that show `RunSummary.values`."""
    shares = sorted(values["shares"].items(), key=lambda item: -item[1])
    lines = [
        f"run: {values['steps']} steps, {values['samples']} samples in {duration(values['seconds'])}, "
        f"{values['samples_per_second']:.1f} samples/s, {values['skipped']} skipped",
        "time: " + ", ".join(f"{phase} {share:.1%}" for phase, share in shares if share >= 0.0005),
    ]
    if values["losses"]:
        lines.append(f"  {'':<10}{'last':>9}{'best':>9}  at step")
        for name, v in values["losses"].items():
            lines.append(f"  {name.removeprefix('loss/'):<10}{v['last']:>9.4f}{v['best']:>9.4f}  {v['best_step']}")
    return lines
