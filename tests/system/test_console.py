"""The progress meter: one line that changes on a terminal, few lines in a log."""

from __future__ import annotations

import io

import pytest

from mmgen_jax.system import console
from mmgen_jax.system.console import Progress


class Stream(io.StringIO):
    """What stands for stderr."""

    def __init__(self, terminal: bool):
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def told(monkeypatch):
    """Function of the seconds that each of four samples takes, and of whether there is a terminal, to what is said."""

    def run(seconds: float, terminal: bool) -> str:
        clock, stream = iter(seconds * i for i in range(9)), Stream(terminal)
        monkeypatch.setattr(console.sys, "stderr", stream)
        monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
        progress = Progress("sample", 4, "samples")
        for _ in range(4):
            progress()
        return stream.getvalue()

    return run


def test_a_terminal_has_one_line_that_changes(told):
    lines = told(2, True)
    assert lines.count("\r") == 3 and lines.endswith("\n") and lines.count("\n") == 1
    first, *_, last = lines.replace("\r", "\n").splitlines()
    assert first.split() == "sample 1/4 0.5 samples/s left 0:06".split()
    assert last.split() == "sample 4/4 0.5 samples/s left 0:00".split()
    assert told(0.01, True).splitlines()[-1].startswith("sample 4/4  100 samples/s")


def test_a_log_has_a_line_a_minute_and_nothing_of_what_is_short(told):
    assert told(10, False) == ""
    lines = told(30, False)
    assert "\r" not in lines and [line.split()[1] for line in lines.splitlines()] == ["2/4", "4/4"]
    assert told(45, False).splitlines()[-1].startswith("sample 4/4")
    assert len(told(70, False).splitlines()) == 4
