"""Functions for runs of several processes, one per host, which must find each other and agree on who writes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from mmgen_jax.system.errors import HostLost, UsageError

_ADDRESS = re.compile(r"[^:/\s]+:(\d{1,5})")
_TEXT_BYTES = 400  # length of the longest text that processes send each other
_START_SECONDS = 300  # how long processes wait for each other at start-up
_QUIET_SECONDS = 10  # how long they wait before the wait is announced
_HEARTBEAT_SECONDS = 100  # how long a process may be silent before it counts as lost and the others end
_LEAVE_SECONDS = 30  # how long a finished process waits for the rest
_LAST_SECONDS = 3  # how long the first process outlives the others after an error that all of them meet
# Texts by which collectives, JAX's coordination service and Orbax's barriers report that a process does not answer.
_NO_ANSWER = re.compile(r"Gloo \S+ failed|UNAVAILABLE|DEADLINE_EXCEEDED|heartbeat|CoordinationService|Barrier", re.I)
T = TypeVar("T")


def _on_tpu_host() -> bool:
    """Whether JAX will run on the TPU chips of this machine. Importing JAX sets the variable where there are any."""
    platforms = jax.config.jax_platforms or ""  # type: ignore[attr-defined]  # made when JAX starts
    return "TPU_ML_PLATFORM" in os.environ and (not platforms or "tpu" in platforms.split(","))


def start(coordinator: str, processes: int, process: int) -> None:
    """Connects the processes of a run. Call it before anything else uses JAX.

    `coordinator`: "", "auto", "none" or host:port of the first process, as the settings `distributed` explain; with an
    address, this is number `process` of `processes`. On TPU hosts JAX finds the other processes itself.

    Raises UsageError for an invalid address or process number.
    """
    if jax.distributed.is_initialized() or coordinator == "none":
        return
    options = {"heartbeat_timeout_seconds": _HEARTBEAT_SECONDS, "shutdown_timeout_seconds": _LEAVE_SECONDS}
    if coordinator in ("", "auto"):
        if coordinator == "auto" or _on_tpu_host():
            try:
                _connect(**options)
            except ValueError as error:  # nothing found
                raise UsageError(
                    f"config key distributed.coordinator is {coordinator!r}, but JAX finds no cluster here "
                    f'({error}); allowed: host:port with distributed.processes and .process, or "none" for one process'
                ) from error
        return
    address = _ADDRESS.fullmatch(coordinator)
    if not address or not 1 <= int(address[1]) < 2**16:
        raise UsageError(
            f"config key distributed.coordinator is {coordinator!r}; allowed: host:port of the first process, "
            '"" (TPU hosts find each other), "auto" (also SLURM, MPI, Kubernetes) or "none" (one process)'
        )
    if not 0 <= process < processes:
        raise UsageError(
            f"config key distributed.process is {process}; "
            f"allowed: 0 to {processes - 1}, as distributed.processes is {processes}"
        )
    _connect(
        coordinator_address=coordinator,
        num_processes=processes,
        process_id=process,
        **options,
    )


def _connect(**options) -> None:
    where = "the other hosts"
    if address := options.get("coordinator_address"):
        where = f"all {options['num_processes']} processes at {address}; this is process {options['process_id']}"
    text = f"waiting for {where} (gives up after {_START_SECONDS} s)"
    waiting = threading.Timer(_QUIET_SECONDS, lambda: print(text, file=sys.stderr, flush=True))
    waiting.start()
    try:
        jax.distributed.initialize(initialization_timeout=_START_SECONDS, **options)
    finally:
        waiting.cancel()
    sys.excepthook = _unexpected


def is_first() -> bool:
    """Whether this is the process that writes what only one may write. Does not initialise any device."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def meet(name: str) -> None:
    """Returns once all processes have called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def total(values: np.ndarray) -> np.ndarray:
    """Sums small integers over all processes; each process must call it."""
    values = np.asarray(values, np.int32)
    if jax.process_count() == 1:
        return values
    return np.asarray(multihost_utils.process_allgather(values)).sum(0)


def first_text(text: str) -> str:
    """The first text, in the order of processes, that is not empty, or "". Each process must call it."""
    if jax.process_count() == 1:
        return text
    mine = np.zeros(_TEXT_BYTES, np.uint8)
    data = np.frombuffer(text.encode()[:_TEXT_BYTES], np.uint8)
    mine[: len(data)] = data
    found = np.asarray(multihost_utils.process_allgather(mine))
    texts = (bytes(row).rstrip(b"\0").decode(errors="replace") for row in found)
    return next(filter(None, texts), "")


def lost(error: BaseException) -> HostLost | None:
    """The error to raise instead of this one if it says that another process does not answer, else None."""
    if jax.process_count() == 1 or not _NO_ANSWER.search(str(error)):
        return None
    cause = " ".join(str(error).split())[:200]
    return HostLost(f"another host has ended, or cannot be reached ({cause}); the same command on all hosts continues")


@contextlib.contextmanager
def losing_hosts() -> Iterator[None]:
    """Within the block, errors that JAX raises because another process is gone become HostLost."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if instead := lost(error):
            raise instead from error
        raise


def leave(code: int) -> None:
    """Ends the process after an error, at once: libraries may wait at exit for other processes, or fail again."""
    if jax.distributed.is_initialized() and jax.process_count() > 1 and jax.process_index() == 0:
        time.sleep(_LAST_SECONDS)  # the others are cut off when this one ends
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _unexpected(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    leave(1)


def only_first(make: Callable[..., T], *args) -> T | Silent:
    """Returns `make(*args)` on the first process, and an object whose methods do nothing on the others."""
    return make(*args) if is_first() else Silent()


class Silent:
    """Stands for an object that only the first process has: every method takes any arguments and does nothing."""

    def __getattr__(self, name: str):
        return lambda *_args, **_kwargs: None
