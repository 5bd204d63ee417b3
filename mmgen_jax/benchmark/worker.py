"""Runs cases in this process, or in another process that runs another checkout, by the same interface.

In the protocol between processes, each line is a JSON object. The parent writes {"case", "calls"} or {"case",
"describe": true}, and the worker answers {"seconds"}, {"facts"} or {"error"}. Older checkouts must understand it too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol, TextIO, runtime_checkable

import jax

from mmgen_jax.benchmark.cases import CASES, Case
from mmgen_jax.parallel import chips
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry import memory


@runtime_checkable
class Contestant(Protocol):
    """Runs cases by name."""

    def run(self, case: str, calls: int) -> float:
        """Makes `calls` calls of a case, and returns the seconds that they took."""

    def describe(self, case: str) -> dict:
        """Returns facts about a case other than its time; see `facts`."""

    def close(self) -> None:
        """Frees models, or ends the other process."""


def facts(case: Case) -> dict:
    """Returns samples, flops, the peak flop/s of the devices (None if unknown), dispatch time and memory of a case."""
    found = {"samples": case.samples, "flops": case.flops, "peak": chips.total_peak(jax.devices())}
    if case.dispatch:
        found["dispatch_ms"] = 1e3 * min(case.dispatch() for _ in range(3))
    if case.program_bytes:
        found["program_gb"] = case.program_bytes() / 1e9
    return found | memory.usage() | {"device": f"{jax.device_count()} x {jax.devices()[0].device_kind}"}


class Local:
    """Runs cases of a config in this process. Each case is made when it is first asked for."""

    def __init__(self, chosen: Settings):
        self._config = chosen
        self._cases: dict[str, Case] = {}

    def _case(self, name: str) -> Case:
        if name not in self._cases:
            self._cases[name] = CASES[name](self._config)
        return self._cases[name]

    def run(self, case: str, calls: int) -> float:
        return self._case(case).run(calls)

    def describe(self, case: str) -> dict:
        return facts(self._case(case))

    def close(self) -> None:
        self._cases.clear()


class Remote:
    """Runs cases in a process of another checkout of this repository, through pipes."""

    def __init__(self, checkout: str, arguments: Sequence[str]):
        """`arguments` are --config and its overrides; relative paths in them are relative to the checkout.

        Raises UsageError if the folder is not a checkout.
        """
        if not os.path.isfile(os.path.join(checkout, "mmgen_jax", "benchmark", "worker.py")):
            raise UsageError(
                f"--checkout is {checkout!r}; it must be a checkout that has mmgen_jax/benchmark/worker.py"
            )
        self._name = checkout
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mmgen_jax.benchmark", *arguments, "--serve"],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": os.path.abspath(checkout)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, question: dict) -> dict:
        assert self._process.stdin and self._process.stdout
        answer = ""
        if self._process.poll() is None:
            try:
                print(json.dumps(question), file=self._process.stdin, flush=True)
                answer = self._process.stdout.readline()
            except BrokenPipeError:
                pass  # the process has ended, which is reported below with its exit code
        if not answer:
            raise UsageError(f"the benchmark of {self._name} ended with code {self._process.wait()}")
        found = json.loads(answer)
        if "error" in found:
            raise UsageError(f"{self._name}: {found['error']}")
        return found

    def run(self, case: str, calls: int) -> float:
        return self._ask({"case": case, "calls": calls})["seconds"]

    def describe(self, case: str) -> dict:
        return self._ask({"case": case, "describe": True})["facts"]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def serve(local: Local, questions: TextIO, answers: TextIO) -> None:
    """Answers what `Remote` asks until its pipe is closed."""
    for line in questions:
        question = json.loads(line)
        answer: dict[str, object]
        try:
            if question.get("describe"):
                answer = {"facts": local.describe(question["case"])}
            else:
                answer = {"seconds": local.run(question["case"], question["calls"])}
        except UsageError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
