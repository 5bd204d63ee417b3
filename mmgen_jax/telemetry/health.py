"""Watches the health of training: steps whose numbers are not finite, and losses that jump."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mmgen_jax.diffusion.losses import TIME_RANGES
from mmgen_jax.system.errors import RunError

HISTORY = 100  # a loss is compared with the median of this many last steps
ENOUGH = 20  # number of values that a median needs
RENEW = 10  # steps between two computations of a median, which changes slowly and costs the host some time

Tell = Callable[[int, str, Mapping[str, float | str]], None]  # (step, kind of event, its values)


def range_name(index: int) -> str:
    """The name of a range of t by its index, for instance "0.25-0.50"."""
    return f"{index / TIME_RANGES:.2f}-{(index + 1) / TIME_RANGES:.2f}"


def losses_by_time(metrics: Mapping[str, np.ndarray], modalities: Sequence[str]) -> dict[str, float]:
    """Turns the sums and counts of `losses.by_time` into mean errors by modality and range of t.

    A range of t in which a modality had no sample is left out. Empty where nothing has a time.
    """
    if "by_time/error" not in metrics:
        return {}
    error, count = metrics["by_time/error"], metrics["by_time/count"]
    return {
        f"by_time/{m}/{range_name(r)}": float(error[i, r] / count[i, r])
        for i, m in enumerate(modalities)
        for r in range(TIME_RANGES)
        if count[i, r]
    }


class Spikes:
    """Finds values above `factor` times the median of the last steps. A value that stays above is reported once."""

    def __init__(self, factor: float):
        self._factor = factor
        self._history: dict[str, deque[float]] = {}
        self._medians: dict[str, float] = {}
        self._high: set[str] = set()
        self._steps = 0

    def __call__(self, values: Mapping[str, float]) -> dict[str, tuple[float, float]]:
        """Returns the new spikes among the values of a step: name -> (value, median)."""
        if self._steps % RENEW == 0:
            self._medians = {k: statistics.median(v) for k, v in self._history.items() if len(v) >= ENOUGH}
        self._steps += 1
        found = {}
        for name, value in values.items():
            median = self._medians.get(name)
            # The alignment loss is a negative cosine, and a multiple of a negative median has no meaning.
            if median is not None and median > 0 and value > self._factor * median:
                if name not in self._high:
                    found[name] = (value, median)
                self._high.add(name)
            else:
                self._high.discard(name)
            self._history.setdefault(name, deque(maxlen=HISTORY)).append(value)
        return found


class Health:
    """Checks the metrics of every step, in the order of the steps.

    Attributes:
      skipped: number of steps so far whose update was not applied.
    """

    def __init__(self, modalities: Sequence[str], max_skipped: int, spike_factor: float, tell: Tell):
        """`max_skipped` is the number of steps, since this process began, that may be skipped before the run stops."""
        self._modalities, self._max, self._tell = modalities, max_skipped, tell
        self._spikes = Spikes(spike_factor)
        self.skipped = 0

    def check(self, step: int, metrics: Mapping[str, np.ndarray]) -> bool:
        """Returns whether the update of `step` was applied. Raises RunError if too many steps have been skipped."""
        if metrics["finite"] == 1:
            values = {k: float(v) for k, v in metrics.items() if k.startswith("loss") or k == "grad_norm"}
            for name, (value, median) in self._spikes(values | losses_by_time(metrics, self._modalities)).items():
                self._tell(step, "spike", {"name": name, "value": value, "median": median})
            return True
        self.skipped += 1
        values = {k: float(v) for k, v in sorted(metrics.items()) if k.startswith("loss") or k == "grad_norm"}
        if self.skipped > self._max:
            shown = ", ".join(f"{k} {v:g}" for k, v in values.items())
            before = f", as those of {self.skipped - 1} steps before" if self._max else ""
            raise RunError(
                f"step {step}: loss or gradient is not finite ({shown}){self._where(metrics)}; "
                f"its update was not applied{before}"
            )
        self._tell(step, "skipped", {"count": self.skipped, "allowed": self._max, **values})
        return False

    def _where(self, metrics: Mapping[str, np.ndarray]) -> str:
        """Names the modalities and ranges of t whose error is not finite; empty if that is true of all of them."""
        if "by_time/error" not in metrics:
            return ""
        bad = ~np.isfinite(metrics["by_time/error"])
        if not bad.any() or bad.sum() == (metrics["by_time/count"] > 0).sum():
            return ""
        return " in " + ", ".join(f"{self._modalities[m]} at t {range_name(r)}" for m, r in np.argwhere(bad).tolist())
