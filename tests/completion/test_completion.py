"""Completion of command lines: what a word may become, that the table is what commands say, and the shells' scripts."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmgen_jax.__main__ import COMMANDS, studies
from mmgen_jax.completion import __main__ as completion
from mmgen_jax.completion.answers import FILE, Option, answers, read
from mmgen_jax.settings import Settings
from mmgen_jax.system import recipes
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import declared

ROOT = Path(__file__).parents[2]
PYTHON = f'mmgen() {{ PYTHONPATH="{ROOT}" "{sys.executable}" -m mmgen_jax "$@"; }}\n'  # the command in a shell


def run(*command: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, **options)


def words(command, word):
    return [found for found, _ in answers(read(), command, word)]


def test_the_table_is_what_commands_and_settings_say():
    done = run(sys.executable, "-m", "mmgen_jax.completion.renew", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    renew = "python -m mmgen_jax.completion.renew > words.json && mv words.json mmgen_jax/completion/"
    assert done.stdout == FILE.read_text(), f"renew it: {renew}"


@pytest.mark.parametrize("name", ["benchmark", "convert", "label"])
def test_flags_are_those_of_the_help(name):
    """Also those that are defined in a loop, in another module, or are switches."""
    out = run(sys.executable, "-m", f"mmgen_jax.{name}", "--help", cwd=ROOT).stdout
    flags = re.findall(r"^  (?:-\w,)?--(\[no\])?(\w+):", out, re.M)
    assert len(flags) > 6
    assert {flag: bool(switch) for switch, flag in flags} == {
        k: v.switch for k, v in read().commands[name].flags.items()
    }


def test_commands_and_names():
    assert words("", "") == list(COMMANDS) and words("", "eval") == ["evaluate"] and words("", "x") == []
    assert words("paint", "--") == []
    assert {"--config=", "--config.", "--workdir=", "--out=", "--npz", "--worker=", "--workers="} == set(
        words("sample", "")
    )
    assert words("sample", "--n") == ["--npz"] and words("label", "--mas") == ["--mask="]
    assert dict(answers(read(), "label", "--im")) == {"--images=": "Folder of images, with folders below it. Required."}
    assert words("study", "") == list(studies()) and words("study", "ca") == ["calibration"]
    assert words("study solvers", "--ca") == ["--calls="] == words("study solvers --out=x", "--ca")
    assert words("study solvers", "--config.data.fl") == ["--config.data.flip="] and words("study paint", "--c") == []
    assert words("completion", "") == ["bash", "zsh", "fish"] and words("completion", "z") == ["zsh"]


def test_settings_come_section_by_section():
    sections = {name.partition(".")[0] for name, _, _ in declared(Settings()) if "." in name}
    assert set(words("train", "--config.")) == {"--config.seed=", *(f"--config.{name}." for name in sections)}
    assert words("train", "--config.optim.b") == ["--config.optim.b1=", "--config.optim.b2="]
    given = ["--config.sample.given_time=", "--config.sample.given_times.", "--config.sample.given."]
    assert sorted(words("train", "--config.sample.giv")) == sorted(given)
    assert list(read().settings) == [name for name, _, _ in declared(Settings())]
    assert words("benchmark", "--compare.train.bat") == ["--compare.train.batch="]
    assert words("app", "--config.") == [] and words("label", "--config") == []  # takes no recipe


def test_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words("train", "--config.data.flip=") == [f"--config.data.flip={x}" for x in ("True", "False")]
    assert words("train", "--config.sample.solver=un") == ["--config.sample.solver=unipc"]
    assert words("export", "--dtype=float3") == ["--dtype=float32"]
    assert words("train", "--config.train.batch=") == [] == words("train", "--unknown=")
    assert words("evaluate", "--workdir=") == ["--workdir=shapes-tiny"]
    assert words("train", "--config.train.init_from=s") == ["--config.train.init_from=shapes-tiny"]


def test_paths(tmp_path, monkeypatch):
    (tmp_path / "configs" / "more").mkdir(parents=True)
    for name in ("configs/a.py", "configs/b c.py", "configs/.hidden", "c\nd"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert words("train", "--config=c") == ["--config=configs/"]
    assert words("train", "--config=shapes_ti") == ["--config=shapes_tiny"]
    assert words("train", "--config=")[: len(recipes.names())] == [f"--config={name}" for name in recipes.names()]
    inside = ["a.py", "b c.py", "more/"]
    for place in ("configs/", f"{tmp_path}/configs/", "~/configs/", "./configs/"):
        assert words("train", f"--config={place}") == [f"--config={place}{name}" for name in inside]
    assert words("train", "--config=configs/.") == ["--config=configs/.hidden"]
    assert words("label", "--depth=precomputed:con") == ["--depth=precomputed:configs/"]
    assert words("convert", "con") == ["configs/"]
    assert words("train", "--config=nowhere/a") == words("train", "--out=gs://b/c") == []


def test_options_are_read_with_what_is_left_out():
    flags = read().commands["export"].flags
    assert flags["dtype"] == Option("Type of the stored weights; float16 halves the file.", ("float32", "float16"))
    assert flags["config"].recipe and flags["config"].file and not flags["out"].recipe


def test_the_command_says_what_it_does_and_refuses_in_one_line():
    assert "mmgen completion fish | source" in completion.said(["--help"])
    for given, message in (
        ([], "shell is ''; allowed: bash, zsh, fish"),
        (["tcsh"], "shell is 'tcsh'; allowed: bash, zsh, fish"),
        (["bash", "zsh"], "unexpected argument 'zsh'; allowed: one of bash, zsh, fish"),
    ):
        with pytest.raises(UsageError, match=f"^{message}$"):
            completion.said(given)
    done = run(sys.executable, "-m", "mmgen_jax", "completion", "tcsh", cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: shell is 'tcsh'; allowed: bash, zsh, fish\n"


def test_it_answers_without_anything_heavy():
    lines = "import runpy, sys; runpy.run_module('mmgen_jax.completion', run_name='__main__'); print(*sys.modules)"
    done = run(sys.executable, "-c", lines, "answer", "train", "--config.optim.learning", cwd=ROOT)
    first, _, loaded = done.stdout.partition("\n")
    assert first == "--config.optim.learning_rate=\tafter warmup"
    assert not {"jax", "numpy", "absl", "ml_collections", "etils"} & set(loaded.split())


@pytest.fixture
def folder(tmp_path) -> Path:
    """Where shells complete names of files: home, and the folder they are in."""
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x.py").touch()
    (tmp_path / "file.py").touch()
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    return {"HOME": str(folder), "PATH": "/usr/bin:/bin", "TERM": "dumb"}


def test_bash_completes(folder):
    """In the words of bash, which takes "=" and ":" for ends of words, and a blank at the end for a whole one."""
    wanted = {
        "mmgen ev": ["evaluate "],
        "mmgen sample --np": ["--npz "],
        "mmgen evaluate --work": ["--workdir="],
        "mmgen evaluate --workdir=sh": ["shapes-tiny "],
        "mmgen train --config.optim.learn": ["--config.optim.learning_rate="],
        "mmgen train --config.sam": ["--config.sample."],
        "mmgen train --config.sample.solver=eu": ["euler ", "euler_maruyama "],
        "mmgen train --workdir=x --config=fi": ["file.py "],
        "mmgen train --config=a": ["a\\ b/"],
        "mmgen label --depth=sam:fi": ["file.py "],
        "mmgen train --config=~/fi": ["~/file.py "],
        "mmgen paint --": [],
        "mmgen study solv": ["solvers "],
        "mmgen study solvers --out=x --ca": ["--calls="],
    }
    lines = [PYTHON, 'eval "$(mmgen completion bash)"\n', "complete -p mmgen\n"]
    for line in wanted:
        lines.append(f"COMP_LINE='{line}' COMP_POINT={len(line)}; _mmgen; printf '%s|' \"${{COMPREPLY[@]}}\"; echo\n")
    done = run("bash", "-uc", "".join(lines), cwd=folder, env=environment(folder))
    assert done.stderr == ""
    told, *found = done.stdout.splitlines()
    assert told == "complete -o nospace -F _mmgen mmgen"
    assert dict(zip(wanted, found, strict=True)) == {
        k: "".join(f"{word}|" for word in v) or "|" for k, v in wanted.items()
    }


def test_the_script_for_bash_is_in_style():
    path = Path(completion.__file__).parent / "mmgen.bash"
    done = run(str(Path(sys.executable).with_name("shellcheck")), "--shell=bash", str(path))
    assert done.returncode == 0, done.stdout


# What stands on the line after Tab was pressed behind the words on the left, as zsh has it.
LINES = {
    "mmgen ev": "mmgen evaluate ",
    "mmgen sample --np": "mmgen sample --npz ",
    "mmgen evaluate --work": "mmgen evaluate --workdir=",
    "mmgen evaluate --workdir=sh": "mmgen evaluate --workdir=shapes-tiny ",
    "mmgen train --config.optim.learn": "mmgen train --config.optim.learning_rate=",
    "mmgen train --config.sam": "mmgen train --config.sample.",
    "mmgen train --config.sample.solver=eu": "mmgen train --config.sample.solver=euler",  # euler_maruyama is there too
    "mmgen train --workdir=x --config=fi": "mmgen train --workdir=x --config=file.py ",
    "mmgen train --config=a": r"mmgen train --config=a\ b/",
    "mmgen label --depth=sam:fi": "mmgen label --depth=sam:file.py ",
    "mmgen train --config=~/fi": r"mmgen train --config=\~/file.py ",  # commands know the home folder themselves
    "mmgen paint --": "mmgen paint --",
    "mmgen study solv": "mmgen study solvers ",
    "mmgen study solvers --out=x --ca": "mmgen study solvers --out=x --calls=",
}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh on this machine")
def test_zsh_completes(folder):
    """In a terminal: what was typed, then Tab, then a key that writes down the line and empties it."""
    log = folder / "log"
    show = f'show() {{ print -r -- "$BUFFER" >> "{log}"; zle kill-whole-line }}; zle -N show; bindkey "^O" show\n'
    terminal, end = pty.openpty()
    zsh = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=end, stdout=end, stderr=end, cwd=folder, env=environment(folder), close_fds=True
    )

    def press(keys: str, lines: int) -> None:
        """Types, and reads what the shell draws until it has written down so many lines."""
        os.write(terminal, keys.encode())
        until = time.monotonic() + 30
        while not log.exists() or log.read_text().count("\n") < lines:
            assert time.monotonic() < until, f"no answer to {keys!r}"
            if select.select([terminal], [], [], 0.1)[0]:
                os.read(terminal, 65536)

    try:
        scripts = ["autoload -Uz compinit; compinit -u\n", 'eval "$(mmgen completion zsh)"\n', show]
        press(PYTHON + "".join(scripts) + f'print ready > "{log}"\n', 1)
        for number, line in enumerate(LINES, 2):
            press(f"{line}\t\x0f", number)
        assert dict(zip(LINES, log.read_text().splitlines()[1:], strict=True)) == LINES
    finally:
        zsh.kill()
        zsh.wait()
        os.close(terminal)
        os.close(end)


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish on this machine")
def test_fish_completes(folder):
    """All that fish would offer, with what it is; fish itself puts a blank behind what is whole."""
    wanted = {
        "mmgen ev": ["evaluate\t"],
        "mmgen sample --np": ["--npz\t"],
        "mmgen evaluate --workdir=sh": ["--workdir=shapes-tiny"],
        "mmgen train --config.optim.learn": ["--config.optim.learning_rate=\tafter warmup"],
        "mmgen train --config.sample.solver=eu": [
            "--config.sample.solver=euler",
            "--config.sample.solver=euler_maruyama",
        ],
        "mmgen train --workdir=x --config=fi": ["--config=file.py"],
        "mmgen train --config=a": ["--config=a b/"],
        "mmgen label --depth=sam:fi": ["--depth=sam:file.py"],
        "mmgen train --config=~/fi": ["--config=~/file.py"],
        "mmgen paint --": [],
        "mmgen study solv": ["solvers"],
        "mmgen study solvers --out=x --ca": ["--calls=\t"],
    }
    lines = [f"function mmgen; PYTHONPATH={ROOT} {sys.executable} -m mmgen_jax $argv; end"]
    lines.append("mmgen completion fish | source")
    for line in wanted:
        lines += [f"complete -C '{line}'", "echo end"]
    done = run("fish", "-N", "-c", "\n".join(lines), cwd=folder, env=environment(folder))
    assert done.stderr == ""
    found = [block.splitlines() for block in done.stdout.split("end\n")[:-1]]
    for (line, begun), offered in zip(wanted.items(), found, strict=True):
        assert len(offered) == len(begun) and all(map(str.startswith, offered, begun)), (line, offered)
