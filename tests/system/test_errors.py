"""What an entry point's user sees when something goes wrong: one line and an exit code."""

import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from mmgen_jax.system import command, errors
from mmgen_jax.system.errors import RunError, UsageError


@pytest.mark.parametrize(
    "raised, code, line",
    [
        (UsageError("depth is 4;\n allowed: 5"), 2, "error: depth is 4; allowed: 5"),
        (RunError("step 3: loss is not finite"), 3, "error: step 3: loss is not finite"),
        (PermissionError(13, "Permission denied", "/proc/x"), 2, "error: /proc/x: Permission denied"),
        (PermissionError(13, "Permission denied", "/a\x1b[2Jb"), 2, "error: /a\\x1b[2Jb: Permission denied"),
        (
            UsageError("file 'a\x1b]0;x\x07\u202e\udcff' is empty"),
            2,
            r"error: file 'a\x1b]0;x\x07\u202e\udcff' is empty",
        ),
        (RunError("a\rb\tc\x00"), 3, r"error: a b\tc\x00"),
        (OSError(28, "No space left on device"), 3, "error: a file that is being written: No space left on device"),
        (OSError(5, "Input/output error"), 3, "error: a file that is being written: Input/output error"),
        (OSError(24, "Too many open files", "/a"), 3, "error: /a: Too many open files"),
        (OSError(30, "Read-only file system", "/a"), 3, "error: /a: Read-only file system"),
        (OSError(116, "Stale file handle"), 3, "error: a file that is being written: Stale file handle"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_expected_errors_are_one_line(monkeypatch, capsys, raised, code, line):
    def main(argv):
        raise raised

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as stopped:
        command.run(main)
    assert stopped.value.code == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_what_failed_first_is_told_when_closing_files_fails_too(monkeypatch, capsys):
    def main(argv):
        try:
            raise RunError("no checkpoint could be written")
        finally:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(SystemExit) as stopped:
        command.run(main)
    assert stopped.value.code == 3
    assert capsys.readouterr().err == "error: no checkpoint could be written\n"


def test_unexpected_errors_keep_their_traceback(monkeypatch):
    def main(argv):
        raise KeyError("a bug")

    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(KeyError):
        command.run(main)


@pytest.mark.parametrize(
    "text, cause",
    [
        ("# A page\n\nNo Python.\n", "invalid syntax (config.py, line 3)"),
        ("def get_config(:\n", "invalid syntax (config.py, line 1)"),
        ("import nothing_of_the_kind\n", "No module named 'nothing_of_the_kind'"),
        ("def get_config():\n    raise RuntimeError('no data')\n", "no data"),
        ("def get_config():\n    return int('x')\n", "invalid literal for int() with base 10: 'x'"),
        ("def get_config():\n    assert False\n", "AssertionError"),
        ("def get_config():\n    return {'seed': 1}\n", "get_config() returned a value of type dict, not ConfigDict"),
        ("seed = 1\n", "has no attribute 'get_config'"),
        (None, "config.py is a folder; allowed: a file"),
    ],
)
def test_files_that_are_no_configs_are_told_in_one_line(monkeypatch, tmp_path, text, cause):
    monkeypatch.delitem(sys.modules, "config_config", raising=False)  # that ml_collections left behind
    path, values = tmp_path / "config.py", flags.FlagValues()
    path.mkdir() if text is None else path.write_text(text)
    config_flags.DEFINE_config_file("config", flag_values=values)
    values["config"].parser = command._ConfigFile(values["config"].parser)
    with pytest.raises(flags.IllegalFlagValueError) as caught:
        values(["command", f"--config={path}", "--config.seed=1"])
    assert str(caught.value).startswith(f"flag --config={path}: no config file that can be loaded: ")
    assert cause in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_commands_tell_of_files_that_are_no_configs():
    command = [sys.executable, "-m", "mmgen_jax.export", "--config=README.md", "--workdir=x", "--out=y"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("error: flag --config=README.md: no config file")
    assert done.stderr.count("\n") == 1


def test_choice_names_all_three():
    assert errors.choice("solver", "euler", ("euler", "heun")) == "euler"
    with pytest.raises(UsageError, match="solver is 'rk9'; allowed: euler, heun"):
        errors.choice("solver", "rk9", ("euler", "heun"))
