"""Tests files of TensorBoard: what is in them, and what happens if they cannot be written."""

import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from mmgen_jax.telemetry.board import Board


def events_in(folder) -> list[Event]:
    """Reads all files of a folder: records of length, checksum, bytes, checksum (the TFRecord format)."""
    found = []
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + size]))
            data = data[12 + size + 4 :]
    return found


def test_numbers_and_pictures_can_be_read_back(tmp_path):
    board = Board(tmp_path / "board", 1)
    board.scalars(1, {"loss": 0.5, "rgb": 2.0})
    board.image(2, "samples", np.zeros((3, 5, 3), np.uint8))
    board.close()
    head, loss, rgb, image = events_in(tmp_path / "board")
    assert head.file_version == "brain.Event:2"
    assert [(e.step, e.summary.value[0].tag) for e in (loss, rgb, image)] == [(1, "loss"), (1, "rgb"), (2, "samples")]
    assert (loss.summary.value[0].simple_value, rgb.summary.value[0].simple_value) == (0.5, 2.0)
    assert (image.summary.value[0].image.height, image.summary.value[0].image.width) == (3, 5)
    assert all(event.wall_time > 0 for event in (loss, rgb, image))


def test_a_run_that_resumes_hides_what_older_files_have_of_its_steps_only(tmp_path):
    """TensorBoard keeps rows of steps below that of the mark."""
    Board(tmp_path, 8).close()
    mark = events_in(tmp_path)[1]
    assert (mark.step, mark.session_log.status) == (8, SessionLog.START)


def test_what_is_written_is_on_the_disk_after_some_seconds(tmp_path):
    board = Board(tmp_path, 1, seconds=0)
    board.scalars(1, {"loss": 0.5})
    assert events_in(tmp_path)[-1].summary.value[0].tag == "loss"
    board.close()


def test_a_full_disk_is_an_error_of_the_call_and_not_a_wait_for_good(mounted, tmp_path):
    with mounted(tmp_path / "disk", "size=64k") as folder:
        board = Board(folder, 1)
        with pytest.raises(OSError, match="No space left on device"):
            for step in range(10_000):
                board.scalars(step, {"loss": 0.5})
