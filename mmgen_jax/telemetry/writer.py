"""Writes the log of a run, as JSON lines and for TensorBoard."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from etils import epath

from mmgen_jax.telemetry.board import Board
from mmgen_jax.telemetry.lines import Lines

METRICS_FILE = "metrics.jsonl"
EVENTS_FILE = "events.jsonl"
BOARD_FOLDER = "tensorboard"


class Writer:
    """Appends the metrics of a run to `metrics.jsonl` and to TensorBoard files in `tensorboard/`.

    Events that belong to a step but are not a row of numbers (spikes, skipped steps, summaries) go to `events.jsonl`.
    """

    def __init__(self, workdir: epath.PathLike, first_step: int):
        workdir = epath.Path(workdir)
        self._lines = Lines(workdir / METRICS_FILE)
        self._events = Lines(workdir / EVENTS_FILE)
        self._board = Board(workdir / BOARD_FOLDER, first_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        values = {key: float(value) for key, value in values.items()}
        self._lines.write(json.dumps({"step": step, **values}))
        self._board.scalars(step, values)

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        """Adds scores of held-out scenes to TensorBoard, below "held-out/", and to the events."""
        values = {key: float(value) for key, value in values.items() if value == value}  # JSON has no NaN
        self.event(step, "scores", values)
        self._board.scalars(step, {f"held-out/{key}": value for key, value in values.items()})

    def event(self, step: int, kind: str, values: Mapping[str, object]) -> None:
        """Appends one event. `values` must be serialisable as JSON."""
        self._events.write(json.dumps({"step": step, "event": kind, **values}))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, 3], to TensorBoard."""
        self._board.image(step, name, image)

    def close(self) -> None:
        self._lines.close()
        self._events.close()
        self._board.close()
