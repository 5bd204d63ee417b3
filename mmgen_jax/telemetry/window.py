"""Metrics of steps, read one step late, and what a run has to say of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from mmgen_jax.system.console import duration
from mmgen_jax.telemetry.clock import Clock
from mmgen_jax.telemetry.health import Health, losses_by_time


class Monitor:
    """Collects metrics of steps without keeping the devices waiting: those of a step are read after the next began."""

    def __init__(self, modalities: Sequence[str], health: Health, clock: Clock):
        self._modalities, self._health, self._clock = modalities, health, clock
        self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
        self._window: list[dict[str, np.ndarray]] = []

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of a step that is being computed; checks those of the one before, see `Health.check`."""
        self.settle()
        self._pending = (step, metrics)

    def settle(self) -> None:
        """Waits for the metrics of the last step and checks them."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        with self._clock("device"):
            metrics = jax.device_get(metrics)
        with self._clock("metrics"):
            if self._health.check(step, metrics):
                self._window.append(metrics)

    def _rank(self, key: str) -> int:
        """Losses come first, in the order of the modalities: JAX sorts names."""
        order = ["loss", *(f"loss/{m}" for m in self._modalities)]
        return order.index(key) if key in order else len(order)

    def means(self) -> dict[str, float]:
        """Means over the steps since the last call, but for skipped ones; empty if all were."""
        window, self._window = self._window, []
        if not window:
            return {}
        sums = {
            key: np.sum([metrics[key] for metrics in window], axis=0, dtype=np.float64)
            for key in sorted(window[0], key=self._rank)
            if key != "finite"
        }
        scalars = {key: float(value) / len(window) for key, value in sums.items() if value.ndim == 0}
        return scalars | losses_by_time(sums, self._modalities)


class RunSummary:
    """What is said at the end of a run, however it ends."""

    def __init__(self, first: int, batch: int):
        """`first`: steps that were made before."""
        self._first, self._batch = first, batch
        self.step = first  # the last one that was handed to the devices
        self._losses: dict[str, list[float]] = {}  # name -> best, its step, last

    def note(self, step: int, means: Mapping[str, float]) -> None:
        """Takes the means of a window that ends with `step`."""
        for name, value in means.items():
            if name.startswith("loss"):
                best, at, _ = self._losses.get(name, (value, step, value))
                self._losses[name] = [value, step, value] if value < best else [best, at, value]

    def values(self, seconds: Mapping[str, float], skipped: int) -> dict[str, float | dict]:
        """All of it. `seconds`: of each phase and "whole", see `Clock.total`."""
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
    """`RunSummary.values` for people."""
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
