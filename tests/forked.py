"""Runs many commands of the package, each in a process forked from one that has imported what takes seconds."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SECONDS = 20  # for one command, which only looks at what it is given
HUNG = -signal.SIGALRM


class Done(NamedTuple):
    """What a command ended with: its exit code (HUNG if it did not end), standard output and standard error."""

    code: int
    out: str
    err: str


def run(commands: Sequence[Sequence[str]]) -> list[Done]:
    """Runs ["mmgen_jax.train", "--workdir=...", ...] one after another, in the root of the repository."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, __file__],
        input=json.dumps([list(map(str, words)) for words in commands]),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return [Done(*entry) for entry in json.loads(done.stdout)]


def _forked(words: list[str]) -> tuple[int, str, str]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            os._exit(_command(words))
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
        return os.waitstatus_to_exitcode(status), *texts


def _command(words: list[str]) -> int:
    signal.alarm(SECONDS)  # ends the process, whatever it waits for
    sys.argv = words
    code: object = 0
    sys.modules.pop(words[0], None)  # otherwise runpy warns
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code if isinstance(code, int) else 0


def _main() -> None:
    commands = json.load(sys.stdin)
    for name in sorted({words[0] for words in commands}):  # as modules they only import and define
        importlib.import_module(name)
    done = [_forked(words) for words in commands]
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    _main()
