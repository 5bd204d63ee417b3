"""A copy of launch/ in a git repository, with the stand-in for gcloud and programs of a TPU VM."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gcloud import fake_gcloud

ROOT = Path(__file__).parents[2]
ARGUMENTS = ["--config=configs/a.py", "--workdir=gs://b/c d", "--config.objective.mix=((1.0, 'none', 0.0, \"rgb\"),)"]
FAKE_PYTHON = """#!/usr/bin/env bash
case "$*" in
  "-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m pip"*) echo "$*" >>"$HOME/pip" ;;
  "-m mmgen_jax.train"*) shift 2 && exec {python} {train} "$@" ;;
  -V) echo "Python 3.13.0" ;;
esac
"""


class Cloud:
    """`repo` holds the scripts, `root` what the stand-in keeps."""

    def __init__(self, folder: Path):
        self.repo, self.root, programs = folder / "a repo", folder / "cloud", folder / "bin"
        for path in (self.repo, self.root, programs):
            path.mkdir()
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "launch", self.repo / "launch", ignore=ignore)
        for path in ROOT.glob("requirements*.txt"):
            shutil.copy(path, self.repo)
        train = ROOT / "tests" / "gcloud" / "fake_train.py"
        for name, text in {
            "gcloud": f'#!/usr/bin/env bash\nexec {sys.executable} {fake_gcloud.__file__} "$@"\n',
            "python3.13": FAKE_PYTHON.format(python=sys.executable, train=train),
            "hostname": '#!/usr/bin/env bash\necho "$WORKER"\n',
            "sudo": '#!/usr/bin/env bash\ncat >"$HOME/sudo"\n',
        }.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {
            "PATH": f"{programs}:/usr/bin:/bin",
            "FAKE_GCLOUD": str(self.root),
            "GRACE": "5",
            "LANG": "C.UTF-8",
        }
        for words in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
            subprocess.run(["git", *words.split()], cwd=self.repo, check=True)

    def popen(self, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [self.repo / "launch" / "tpu.sh", *map(str, words)],
            env=self.environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def tpu(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Runs tpu.sh, which has to end with `code`; returns what it printed."""
        process = self.popen(*words)
        try:
            out, error = process.communicate(timeout=60)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == code, f"{words}\n{out}\n{error}"
        return out, error

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.root / "calls.jsonl").read_text().splitlines()]

    def verbs(self) -> list[str]:
        return [fake_gcloud.parse(call)[0].split()[-1] for call in self.calls()]

    def plan(self, *lines: str) -> None:
        (self.root / "plan").write_text("\n".join(lines))

    def starts(self, worker: str = "a-w-0") -> list[list[str]]:
        return [json.loads(line) for line in (self.root / f"starts-{worker}.jsonl").read_text().splitlines()]

    def home(self, worker: int = 0, node: str = "a") -> Path:
        return self.root / "vms" / node / str(worker)

    def begin(self, *plan: str) -> None:
        """Creates TPU VMs and starts training on them."""
        self.plan(*plan)
        self.tpu("create", "a", "--zone=z", "--accelerator=v5litepod-16", "--spot")
        self.tpu("setup", "a")
        self.tpu("run", "a", "--", *ARGUMENTS)

    def watch(self, *options: str, code: int = 0) -> str:
        out, error = self.tpu("watch", "a", "--poll=1", *options, code=code)
        assert len(error.splitlines()) <= 1 or code == 0, error
        return out + error


def until(true: Callable[[], bool], seconds: float = 30) -> None:
    """Waits until a condition is true; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


@contextlib.contextmanager
def standing(folder: Path) -> Iterator[Cloud]:
    """A cloud in an empty folder; all that runs on it is ended afterwards."""
    cloud = Cloud(folder)
    try:
        yield cloud
    finally:
        fake_gcloud.switch_off(cloud.root)
