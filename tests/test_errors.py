"""What an entry point's user sees when something goes wrong: one line and an exit code."""

import sys

import pytest

from mmgen_jax import errors
from mmgen_jax.errors import RunError, UsageError


@pytest.mark.parametrize(
    "raised, code, line",
    [
        (UsageError("depth is 4;\n allowed: 5"), 2, "error: depth is 4; allowed: 5"),
        (RunError("step 3: loss is not finite"), 3, "error: step 3: loss is not finite"),
        (PermissionError(13, "Permission denied", "/proc/x"), 2, "error: /proc/x: Permission denied"),
    ],
)
def test_expected_errors_are_one_line(monkeypatch, capsys, raised, code, line):
    def main(argv):
        raise raised

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as stopped:
        errors.run(main)
    assert stopped.value.code == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_unexpected_errors_keep_their_traceback(monkeypatch):
    def main(argv):
        raise KeyError("a bug")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(KeyError):
        errors.run(main)


def test_choice_names_all_three():
    assert errors.choice("solver", "euler", ("euler", "heun")) == "euler"
    with pytest.raises(UsageError, match="solver is 'rk9'; allowed: euler, heun"):
        errors.choice("solver", "rk9", ("euler", "heun"))
