"""The progress line of training."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mmgen_jax.system.console import duration


class Progress:
    """Makes the progress line: step, loss, steps per second, share of the peak, time left, and parts of the loss."""

    def __init__(self, first_step: int, last_step: int, batch: int, step_flops: float, peak: float | None):
        """`step_flops` is the number of flops of a step, `peak` the peak flop/s of all devices, or None if unknown."""
        self._last, self._batch = last_step, batch
        self._flops, self._peak = step_flops, peak
        self._mark = (first_step, time.monotonic())

    def line(self, step: int, metrics: Mapping[str, float], compiling: float = 0.0) -> tuple[str, dict[str, float]]:
        """Returns the line for `step` and the rates since the line before it; the seconds `compiling` do not count."""
        then, since = self._mark
        now = time.monotonic()
        self._mark = (step, now)
        rate = (step - then) / max(now - since - compiling, 1e-9)
        rates = {"steps_per_second": rate, "samples_per_second": rate * self._batch}
        rates["model_tflops"] = rate * self._flops / 1e12
        parts = [f"step {step}/{self._last}"] + ([f"loss {metrics['loss']:.4f}"] if "loss" in metrics else [])
        parts.append(f"{rate:.2f} steps/s")
        if self._peak:
            rates["mfu"] = rate * self._flops / self._peak
            parts.append(f"{rates['mfu']:.1%} of peak")
        parts.append(f"left {duration((self._last - step) / rate) if rate > 0 else '?'}")
        parts.append(" ".join(f"{key[5:]} {v:.3f}" for key, v in metrics.items() if key.startswith("loss/")))
        return "  ".join(parts).rstrip(), rates
