"""Reads checkpoints of training runs, which Orbax wrote, and checks that they are sound."""

from __future__ import annotations

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from mmgen_jax.checkpoints import quiet, readback, seal
from mmgen_jax.system import files, hosts
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

FOLDER = "checkpoints"
_DELETED, _DAMAGED = ".deleted", "damaged"  # folders in FOLDER for checkpoints that are being deleted or are set aside
_STEP = re.compile("0|[1-9][0-9]*")  # as Orbax writes them; Python takes "007" and "\u0669" for numbers too
_COMMITTED = "commit_success.txt"  # Orbax marks complete checkpoints with this file where renaming is not atomic
T = TypeVar("T")
Tree = TypeVar("Tree")  # a train state, or any other tree of arrays


def folder_of(workdir: epath.PathLike) -> epath.Path:
    """Folder of the checkpoints of a workdir. Raises UsageError for a path that Orbax cannot take."""
    files.check_path(workdir, "workdir")
    return files.absolute(workdir) / FOLDER


def is_complete(path: epath.Path) -> bool:
    """Whether Orbax has finished writing a checkpoint. Only then it gets its name, or its mark on object stores."""
    return (path / _COMMITTED if files.is_remote(path) else path).exists()


def steps_in(folder: epath.Path) -> list[int]:
    """Steps of the complete checkpoints, ascending, whether they are sound or not."""
    if not folder.exists():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if _STEP.fullmatch(path.name) and is_complete(path))


def remove(folder: epath.Path, step: int) -> None:
    """Deletes a checkpoint. If that is interrupted, what is left of it is never taken for a checkpoint."""
    path = folder / str(step)
    if files.is_remote(folder):
        (path / _COMMITTED).unlink(missing_ok=True)
        path.rmtree()
        return
    (folder / _DELETED).mkdir(exist_ok=True)
    path.rename(folder / _DELETED / str(step))
    empty_bin(folder)


def empty_bin(folder: epath.Path) -> None:
    """Deletes what an interrupted `remove` has left behind."""
    if _is_own(folder / _DELETED):
        shutil.rmtree(folder / _DELETED)
    else:
        (folder / _DELETED).unlink(missing_ok=True)  # a link, whose target is not ours


def _is_own(path: epath.Path) -> bool:
    """Whether it is a folder, and not a link to one."""
    return path.is_dir() and not os.path.islink(path)


def set_aside(folder: epath.Path, step: int) -> epath.Path:
    """Moves an unusable checkpoint away, so that a new one of this step can be written; returns its new folder."""
    place = next(path for path in _numbered(folder / _DAMAGED) if _is_own(path) or not os.path.lexists(path))
    place.mkdir(exist_ok=True)
    target = next(path for path in _numbered(place / str(step)) if not os.path.lexists(path))
    return (folder / str(step)).rename(target)


def _numbered(path: epath.Path) -> Iterator[epath.Path]:
    """The path itself, then with "-2", "-3" and so on behind its name."""
    yield path
    yield from (path.parent / f"{path.name}-{i}" for i in itertools.count(2))


def _chosen(folder: epath.Path, step: int | None) -> list[int]:
    """The steps to try in this order: `step` alone, or all from the newest on. Raises UsageError if there is none."""
    steps = steps_in(folder)
    if not steps:
        raise UsageError(f"no checkpoint in {folder}")
    if step is not None and step not in steps:
        raise UsageError(f"no checkpoint of step {step} in {folder}; there are: {', '.join(map(str, steps))}")
    return steps[::-1] if step is None else [step]


def examine(path: epath.Path, process: int = 0, processes: int = 1) -> seal.Seal | None:
    """Compares this process's share of a checkpoint with its checksums, and reads back a little of it.

    Returns what it is sealed with; None if it has no checksums, so that a changed number would not be noticed. Raises
    Damage if a file differs from what was written, or if it cannot be read.
    """
    try:
        stored = seal.read_seal(path)
        if stored:
            seal.check(path, stored, process, processes)
        else:
            seal.contents(path)
        with quiet.orbax():
            readback.check(path)
    except OSError as error:
        raise seal.Damage(readback.told(error)) from error
    return stored


def _verify(path: epath.Path) -> bool:
    """Whether a checkpoint is sealed. The processes share the work of `examine`, and all get the same answer."""
    problem, sealed = "", False
    try:
        sealed = examine(path, jax.process_index(), jax.process_count()) is not None
    except seal.Damage as error:
        problem = str(error)
    if problem := hosts.first_text(problem):
        raise seal.Damage(problem)
    return sealed


def _read(read: Callable[[int], T], number: int) -> T:
    """Calls `read(number)`. An error on one of the processes becomes Damage on all of them.

    All exceptions are caught, as Orbax raises many types for damaged files, even Exception itself.
    """
    problem = ""
    try:
        with quiet.orbax():
            found = read(number)
    except UsageError:
        raise
    except Exception as error:
        problem = readback.told(error)
    if problem := hosts.first_text(problem):
        raise seal.Damage(problem)
    return found


def _first_sound(folder: epath.Path, step: int | None, read: Callable[[int], T]) -> tuple[T, int]:
    """Reads the newest sound checkpoint, or that of `step`; returns what `read` returns, and the step.

    Prints why a checkpoint is skipped. Raises UsageError if none can be read, or if a sound one cannot be read because
    the config describes another state.
    """
    problems = []
    for number in _chosen(folder, step):
        sealed = False
        try:
            sealed = _verify(folder / str(number))
            found = _read(read, number)
        except seal.Damage as error:
            if sealed:
                raise UsageError(
                    f"checkpoint of step {number} in {folder} is sound, but belongs to another model or optimizer than "
                    f"that of the config ({error})"
                ) from error
            problems.append((number, error))
            if step is None:
                say(f"checkpoint of step {number} skipped, it is damaged: {error}")
            continue
        if not sealed:
            say(f"checkpoint of step {number} has no checksums (its run was stopped, or is old); it could be read")
        return found, number
    newest, cause = problems[0]
    if step is not None:
        raise UsageError(f"checkpoint of step {newest} in {folder} is damaged or belongs to another model ({cause})")
    tried = ", ".join(str(number) for number, _ in problems)
    raise UsageError(
        f"no checkpoint in {folder} can be read; all are damaged or belong to another model: {tried} "
        f"({newest}: {cause}); move the folder away to start anew"
    )


def open_manager(
    folder: epath.Path,
    state: ocp.PyTreeCheckpointHandler | None = None,
    options: ocp.CheckpointManagerOptions | None = None,
) -> ocp.CheckpointManager:
    """Makes Orbax's manager of the checkpoints in a folder. It reads and writes states of any structure, and parts.

    Args:
      folder: the folder of the checkpoints, see `folder_of`.
      state: the handler that reads and writes states; None means Orbax's handler for trees.
      options: options of the manager.
    """
    handlers = {readback.STATE: state or ocp.PyTreeCheckpointHandler(), readback.META: ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder, item_names=tuple(handlers), item_handlers=handlers, options=options)


def entries(workdir: epath.PathLike) -> tuple[str, ...]:
    """Names of the entries of a workdir's newest sound state, as "ema" and "opt_state"; empty without a checkpoint."""
    folder = folder_of(workdir)

    def read(number: int) -> tuple[str, ...]:
        with open_manager(folder) as manager:
            return tuple(manager.item_metadata(number)["state"].tree)

    return _first_sound(folder, None, read)[0] if steps_in(folder) else ()


def restore(workdir: epath.PathLike, abstract: Tree, step: int | None = None) -> tuple[Tree, dict]:
    """Reads the state and the meta data of `step` or of the newest sound checkpoint; prints which are skipped.

    Args:
      workdir: the workdir of the run.
      abstract: tree of ShapeDtypeStruct with the sharding that every leaf should get. The mesh and the number of hosts
        may differ from those that wrote the checkpoint.
      step: step of the checkpoint to read; None means the newest sound one.

    Raises:
      UsageError: there is no checkpoint, none of that step, or none that can be read, or it holds only a part of a
        state.
    """
    folder = folder_of(workdir)

    def read(number: int) -> ocp.args.Composite:
        with open_manager(folder) as manager:
            if "params" not in manager.item_metadata(number)["state"].tree:
                raise UsageError(
                    f"{folder.parent} has averaged weights alone and cannot be continued; "
                    "start a new run from them by train.init_from, or convert the checkpoint with --optimizer"
                )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
        with ocp.CheckpointManager(folder) as manager:
            return manager.restore(number, args=args)

    restored, _ = _first_sound(folder, step, read)
    return restored.state, restored.meta


def restore_ema(workdir: epath.PathLike, step: int | None = None) -> tuple[dict, int]:
    """Reads only the averaged parameters of `step` or of the newest sound checkpoint, onto the default device.

    Returns them and their step. Raises UsageError if there is no such checkpoint, or if it cannot be read.
    """
    folder = folder_of(workdir)

    def read(number: int) -> dict:
        with open_manager(folder) as manager:
            stored = manager.item_metadata(number)["state"].tree["ema"]
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            item = {"ema": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored)}
            options = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(sharding=device), item)
            wanted = ocp.args.PyTreeRestore(item=item, restore_args=options, partial_restore=True)
            return manager.restore(number, args=ocp.args.Composite(state=wanted))["state"]["ema"]

    return _first_sound(folder, step, read)
