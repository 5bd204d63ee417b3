"""Starts training in separate processes, as on one or several hosts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SMALL = {
    "data.image_size": 16,
    "autoencoder.components": "(8,4,8,8)",
    "model.depth": 1,
    "model.width": 16,
    "model.heads": 2,
    "optim.warmup_steps": 0,
    "optim.decay_steps": 0,
    "train.batch": 8,
    "train.steps": 4,
    "train.log_every": 1,
    "train.save_every": 2,
    "train.sample_every": 0,
    "sample.steps": 2,
    "sample.solver": "euler",
}


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def start(workdir, settings: dict, devices: int = 1, **options) -> subprocess.Popen:
    """Starts `python -m mmgen_jax.train` with `SMALL` and `settings` on this number of virtual devices."""
    flags = [f"--config.{key}={value}" for key, value in (SMALL | settings).items()]
    command = [sys.executable, "-m", "mmgen_jax.train", "--config=configs/shapes_tiny.py", f"--workdir={workdir}"]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *flags], cwd=ROOT, env=environment, **(streams | options))


def start_hosts(workdir, count: int, settings: dict, devices: int) -> list[subprocess.Popen]:
    """One run in `count` processes that share `devices` virtual devices; they must be read from at the same time."""
    cluster = {"distributed.coordinator": f"localhost:{free_port()}", "distributed.processes": count}
    return [start(workdir, settings | cluster | {"distributed.process": i}, devices // count) for i in range(count)]


def losses(workdir) -> dict[int, float]:
    """Loss of each step in the log, the last one where a step was logged more than once."""
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    return {entry["step"]: entry["loss"] for entry in map(json.loads, lines)}
