"""Writes checkpoints of a run in the background, adds checksums, and only then deletes old ones."""

from __future__ import annotations

import threading

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import type_handlers

from mmgen_jax.checkpoints import quiet, readback, restore, seal
from mmgen_jax.system import hosts
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import HostLost, RunError

_POLL_SECONDS = 0.05
_PATIENCE_SECONDS = 60


def to_keep(losses: dict[int, float | None], newest: int, best: int) -> set[int]:
    """Chooses the checkpoints that stay: the `newest` last steps, and the `best` steps of the lowest loss.

    `losses` has the step and the loss (None if unknown) of every sealed checkpoint.
    """
    with_loss = sorted((loss, -step) for step, loss in losses.items() if loss is not None and loss == loss)
    return set(sorted(losses)[-newest:]) | {-step for _, step in with_loss[:best]}


def write(workdir: epath.PathLike, step: int, state: object, meta: dict) -> None:
    """Writes one checkpoint of NumPy arrays with checksums, and waits for it. No array is in memory twice.

    Raises Damage if what was written cannot be read.
    The options keep Orbax from copying arrays and from compressing the copies, which saves only a tenth for weights.
    """
    registry = type_handlers.create_type_handler_registry(
        (np.ndarray, type_handlers.NumpyHandler(deepcopy_host_arrays=False)),
        (jax.Array, type_handlers.ArrayHandler()),
    )
    handler = ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=registry)
    folder = restore.folder_of(workdir)
    options = ocp.CheckpointManagerOptions(enable_async_checkpointing=False)
    with restore.open_manager(folder, handler, options) as manager:
        args = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
        manager.save(step, args=args, force=True)
    readback.check(folder / str(step))
    seal.write_manifest(folder / str(step))


class _Manager(ocp.CheckpointManager):
    """Orbax's manager without its own check for requests to stop.

    `preemption` makes these checks, and all processes must make them in the same order. Those of Orbax come late and
    out of order.
    """

    def reached_preemption(self, step: int) -> bool:
        del step
        return False


class Saver:
    """Writes checkpoints of one run; a context manager. All processes of a run make the same calls.

    A save has four stages, and training waits for none of them. Orbax writes the checkpoint under another name and
    renames it. A little of it is read back. Then every process adds checksums of its share of the files, which seals
    the checkpoint. At last, checkpoints that need not stay are deleted. So whenever a process is killed, a sealed
    checkpoint is on disk.

    Attributes:
      newest: step of the newest save; before the first one, the step that the run began at.
    """

    def __init__(self, workdir: epath.PathLike, keep: int, keep_best: int, start: int):
        """Keeps the `keep` newest checkpoints, and besides them the `keep_best` with the lowest loss.

        Checkpoints of steps after `start` are set aside, since the run starts from an older one because they could not
        be read.
        """
        self._folder = restore.folder_of(workdir)
        self._keep, self._keep_best = keep, keep_best
        self.newest, self._stop = start, threading.Event()
        self._sealing: threading.Thread | None = None
        self._failure: Exception | None = None
        if hosts.is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            restore.empty_bin(self._folder)
            for step in restore.steps_in(self._folder):
                if step > start:
                    where = restore.set_aside(self._folder, step)
                    say(f"checkpoint of step {step} set aside: moved to {where}")
        hosts.meet("checkpoints of later steps are set aside")
        options = ocp.CheckpointManagerOptions(enable_async_checkpointing=True, cleanup_tmp_directories=True)
        self._manager = _Manager(self._folder, options=options)

    def __enter__(self) -> Saver:
        self._quiet = quiet.orbax()
        self._quiet.__enter__()
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if isinstance(error, HostLost):  # all others would wait for the lost host
                self._stop.set()
            else:
                self._manager.close()
            if self._sealing:
                self._sealing.join(_PATIENCE_SECONDS)  # with a limit, as other processes may be gone after an error
        except Exception as failure:
            if error is None:  # otherwise an error is reported already
                raise self._not_written(failure) from failure
        finally:
            self._stop.set()
            self._quiet.__exit__(kind, error, trace)

    def save(self, step: int, state: object, meta: dict, loss: float | None = None) -> None:
        """Starts saving a tree of arrays, with `meta`, a dict that JSON can hold. Waits for the save before this one.

        Raises RunError if the save before failed, or if this one cannot begin.
        """
        self.finish()
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        self.newest = step
        try:
            self._manager.save(step, args=args, force=True)
        except Exception as error:
            raise self._not_written(error) from error
        self._sealing = threading.Thread(target=self._seal, args=(step, loss), name="seal", daemon=True)
        self._sealing.start()

    def check(self) -> None:
        """Raises RunError if the save in progress has failed. It is cheap enough for every step."""
        try:
            self._manager.check_for_errors()
        except Exception as error:
            raise self._not_written(error) from error
        if self._failure:
            raise self._not_written(self._failure) from self._failure

    def finish(self) -> None:
        """Waits until the save in progress is written and sealed. Raises RunError if it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._not_written(error) from error
        if self._sealing:
            self._sealing.join()
            self._sealing = None
        self.check()

    def _not_written(self, error: BaseException) -> RunError:
        self._stop.set()  # ends the waiting of the thread below
        if lost := hosts.lost(error):
            return lost
        steps = [step for step in restore.steps_in(self._folder) if seal.is_sealed(self._folder / str(step))]
        rest = f"the newest whole one is of step {steps[-1]}" if steps else "there is no other"
        cause = " ".join(str(error).split())
        full = "No space left on device" if "o space left" in cause or "RESOURCE_EXHAUSTED" in cause else cause[:300]
        return RunError(f"checkpoint of step {self.newest} could not be written to {self._folder}: {full}; {rest}")

    def _seal(self, step: int, loss: float | None) -> None:
        """Runs what follows writing, in a thread."""
        try:
            path = self._folder / str(step)
            while not restore.is_complete(path):
                if self._stop.wait(_POLL_SECONDS):
                    return
            readback.check(path)
            seal.write_manifest(path, loss, jax.process_index(), jax.process_count())
            if hosts.is_first():
                while not seal.is_sealed(path):  # until the other processes have sealed their shares
                    if self._stop.wait(_POLL_SECONDS):
                        return
                self._delete_old(step)
        except Exception as error:  # raised by `check` in the training thread
            self._failure = error

    def _delete_old(self, newest: int) -> None:
        losses = {}
        for step in restore.steps_in(self._folder):
            try:
                stored = seal.read_seal(self._folder / str(step))
            except seal.Damage as error:
                say(f"checkpoint of step {step} is damaged: {error}")
                continue
            if stored:
                losses[step] = stored.loss
        for step in set(restore.steps_in(self._folder)) - to_keep(losses, self._keep, self._keep_best):
            if step < newest:
                restore.remove(self._folder, step)
