"""Reads the metrics of steps one step late, and computes their means over the steps since the last row of the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np

from mmgen_jax.telemetry.clock import Clock
from mmgen_jax.telemetry.health import Health, losses_by_time


class Monitor:
    """Collects metrics. Those of a step are read when the next step has begun, so that devices never wait for it."""

    def __init__(self, modalities: Sequence[str], health: Health, clock: Clock):
        self._modalities, self._health, self._clock = modalities, health, clock
        self._pending: tuple[int, Mapping[str, jax.Array]] | None = None
        self._window: list[dict[str, np.ndarray]] = []

    def add(self, step: int, metrics: Mapping[str, jax.Array]) -> None:
        """Takes the metrics of a step that is being computed, and checks those of the step before (`Health.check`)."""
        self.settle()
        self._pending = (step, metrics)

    def settle(self) -> None:
        """Waits for the metrics of the last step, and checks them."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        with self._clock("device"):
            metrics = jax.device_get(metrics)
        with self._clock("metrics"):
            if self._health.check(step, metrics):
                self._window.append(metrics)

    def means(self) -> dict[str, float]:
        """Means over the steps since the last call whose update was applied; empty if there are none."""
        window, self._window = self._window, []
        if not window:
            return {}
        sums = {
            key: np.stack([metrics[key] for metrics in window]).sum(axis=0, dtype=np.float64)
            for key in window[0]
            if key != "finite"
        }
        scalars = {key: float(value) / len(window) for key, value in sums.items() if value.ndim == 0}
        return scalars | losses_by_time(sums, self._modalities)
