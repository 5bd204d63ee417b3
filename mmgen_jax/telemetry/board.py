"""A file of TensorBoard, written by the thread that calls."""

from __future__ import annotations

import time

import numpy as np
from etils import epath
from tensorboardX import record_writer, summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

_SECONDS = 120.0


class Board:
    """Appends numbers and pictures to a new file of events in a folder.

    `tensorboardX.SummaryWriter` would hand them to a thread through a short queue. On a full disk that thread ends,
    and once the queue is full, the next call waits for good. Here a full disk is an OSError of the call that met it.
    """

    def __init__(self, folder: epath.PathLike, first_step: int, seconds: float = _SECONDS):
        """`first_step` is the first that the run makes. TensorBoard hides what older files have of it and later ones.

        What is written comes to the disk, or to a bucket, every so many `seconds` at the earliest.
        """
        record_writer.directory_check(str(folder))
        self._file = EventsWriter(f"{folder}/events")
        self._seconds, self._mark = seconds, time.monotonic()
        if first_step > 1:
            self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Adds a number to each curve that `values` names."""
        for name, value in values.items():
            self._add(step, summary.scalar(name, value))

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Adds a picture, uint8 [H, W, 3]."""
        self._add(step, summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        self._file.close()

    def _add(self, step: int, content: Summary) -> None:
        self._write(Event(step=step, summary=content))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._file.write_event(event)
        if time.monotonic() - self._mark >= self._seconds:
            self._file.flush()
            self._mark = time.monotonic()
