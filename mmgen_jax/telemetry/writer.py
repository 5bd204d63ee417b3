"""What a run says: JSON lines, TensorBoard and a progress line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping

import numpy as np
from etils import epath
from tensorboardX import SummaryWriter

from mmgen_jax.system import hosts as distributed
from mmgen_jax.telemetry.lines import Lines

METRICS_FILE = "metrics.jsonl"
EVENTS_FILE = "events.jsonl"


class Writer:
    """Appends metrics of a run to `metrics.jsonl` and, beside it, to TensorBoard files in `tensorboard/`.

    What happens at a step, and is no row of numbers, goes to `events.jsonl`: spikes, skipped steps, summaries.
    """

    def __init__(self, workdir: epath.PathLike, first_step: int):
        workdir = epath.Path(workdir)
        self._lines = Lines(workdir / METRICS_FILE)
        self._events = Lines(workdir / EVENTS_FILE)
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step or None)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        values = {key: float(value) for key, value in values.items()}
        self._lines.write(json.dumps({"step": step, **values}))
        for key, value in values.items():
            self._board.add_scalar(key, value, step)

    def event(self, step: int, kind: str, values: Mapping[str, object]) -> None:
        """`values` must be JSON."""
        self._events.write(json.dumps({"step": step, "event": kind, **values}))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """`image` uint8 [H, W, 3]."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        self._lines.close()
        self._events.close()
        self._board.close()


def duration(seconds: float) -> str:
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """One line per report: step, loss, steps per second, share of the peak, time left, and the parts of the loss."""

    def __init__(self, first_step: int, last_step: int, batch: int, step_flops: float, peak: float | None):
        """`step_flops`: the model's in a step; `peak`: flop/s of all devices, None where it is not known."""
        self._last, self._batch = last_step, batch
        self._flops, self._peak = step_flops, peak
        self._mark = (first_step, time.monotonic())

    def line(self, step: int, metrics: Mapping[str, float], compiling: float = 0.0) -> tuple[str, dict[str, float]]:
        """The line for `step` and the rates since the line before it, without the seconds spent `compiling`."""
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


def say(text: str) -> None:
    """One line to the user, at once; of several processes the first one speaks."""
    if distributed.is_first():
        say_here(text)


def say_here(text: str) -> None:
    """One line to the user that only this process can know, whichever it is."""
    print(text, file=sys.stdout, flush=True)
