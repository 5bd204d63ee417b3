"""A stand-in for gcloud: it records how it was called, refuses what the real one refuses, and plays two workers.

A worker is a folder, which is HOME for the commands sent to it. Everything lies in the folder $FAKE_GCLOUD:
  calls.jsonl   the arguments of each call
  states        the states that `describe` answers in turn; the last one stays. NONE: there is none; OFFLINE: an error.
                Without it: ACTIVE once created.
  message       why the request failed
  unreachable   while it exists, ssh and scp fail
  vms/NODE/0    the home folder of worker 0
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

RECORDED = json.loads((Path(__file__).parent / "recorded.json").read_text())["commands"]
WORKERS = 2


def parse(words: Sequence[str]) -> tuple[str, list[str], dict[str, str]]:
    """Command, positional arguments and flags; exits with 2, as gcloud does, where it does not know one."""
    command = next((c for c in RECORDED if list(words[: len(c.split())]) == c.split()), None)
    if command is None:
        refuse(f"(gcloud) Invalid choice: {' '.join(words)}")
    allowed = RECORDED[command]
    positional, flags = [], {}
    rest = iter(words[len(command.split()) :])
    for word in rest:
        name, equals, value = word.partition("=")
        if not word.startswith("-"):
            positional.append(word)
        elif name not in allowed:
            refuse(f"(gcloud.{command.replace(' ', '.')}) unrecognized arguments: {word}")
        elif allowed[name] == "bool":
            if equals:
                refuse(f"argument {name}: ignored explicit argument {value!r}")
            flags[name] = ""
        else:
            value = value if equals else next(rest, None)
            if value is None or (isinstance(allowed[name], list) and value not in allowed[name]):
                refuse(f"argument {name}: {value!r} is not allowed")
            flags[name] = value
    return command, positional, flags


def refuse(message: str) -> None:
    print(f"ERROR: {message}", file=sys.stderr)
    sys.exit(2)


def fail(message: str) -> None:
    print(f"ERROR: (gcloud) {message}", file=sys.stderr)
    sys.exit(1)


def switch_off(root: Path) -> None:
    """Ends everything that runs on all workers, as a power failure would."""
    for file in root.glob("vms/*/*/mmgen_run/pid"):
        if not (file.parent / "exit").exists():
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.killpg(int(file.read_text()), signal.SIGKILL)


def next_state(root: Path) -> str | None:
    if not (root / "states").exists():
        return "ACTIVE" if (root / "vms").exists() else None
    first, *rest = (root / "states").read_text().split()
    if rest:
        (root / "states").write_text("\n".join(rest))
    return None if first == "NONE" else first


def homes(root: Path, node: str, worker: str) -> list[Path]:
    found = sorted((root / "vms" / node).glob("*" if worker == "all" else worker))
    if not found or (root / "unreachable").exists():
        fail(f"[255] no connection to worker {worker} of {node}")
    return found


def ssh(root: Path, node: str, flags: dict[str, str]) -> int:
    # gcloud splits the command at spaces, ssh joins the pieces again and hands them to the shell of the worker.
    text = " ".join(flags["--command"].split(" "))
    running = [
        subprocess.Popen(
            ["bash", "-c", text],
            cwd=home,
            env=os.environ | {"HOME": str(home), "WORKER": f"{node}-w-{home.name}"},
            stdin=subprocess.DEVNULL,
        )
        for home in homes(root, node, flags.get("--worker", "0"))
    ]
    return max(process.wait() for process in running)


def main(words: Sequence[str]) -> int:
    root = Path(os.environ["FAKE_GCLOUD"])
    with (root / "calls.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(list(words)) + "\n")
    command, positional, flags = parse(words)
    verb = command.split()[-1]
    if verb == "describe":
        if "failedData" in flags["--format"]:
            print((root / "message").read_text() if (root / "message").exists() else "")
        elif (state := next_state(root)) is None:
            fail("NOT_FOUND: Requested entity was not found.")
        elif state == "OFFLINE":
            fail("There was a problem refreshing your current auth tokens")
        else:
            print(state)
    elif verb == "create":
        prefix = flags.get("--node-prefix", positional[0])
        names = [f"{prefix}-{i}" for i in range(int(flags["--node-count"]))] if "--node-count" in flags else None
        for node in names or [flags["--node-id"]]:
            for i in range(WORKERS):
                (root / "vms" / node / str(i)).mkdir(parents=True)
    elif verb == "delete":
        switch_off(root)
        shutil.rmtree(root / "vms", ignore_errors=True)
    elif verb == "scp":
        *sources, target = positional
        for home in homes(root, target.rstrip(":"), flags.get("--worker", "0")):
            for source in sources:
                shutil.copy(source, home)
    else:
        return ssh(root, positional[0], flags)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
