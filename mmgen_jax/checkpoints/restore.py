"""Orbax: asynchronous checkpoints of the train state together with the data position, checked when they are read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TypeVar

import jax
import orbax.checkpoint as ocp
from etils import epath

from mmgen_jax.checkpoints import quiet, seal
from mmgen_jax.system import files, hosts
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

FOLDER = "checkpoints"
_DELETED, _DAMAGED = ".deleted", "damaged"  # folders in FOLDER
_COMMITTED = "commit_success.txt"  # Orbax's sign that a checkpoint is complete, where renaming is not atomic
T = TypeVar("T")
Tree = TypeVar("Tree")  # a train state, as tree of arrays


def folder_of(workdir: epath.PathLike) -> epath.Path:
    return files.absolute(workdir) / FOLDER


def is_complete(path: epath.Path) -> bool:
    """Whether Orbax has finished writing the checkpoint: only then it gets its name (or there is no renaming)."""
    return path.is_dir() and (not files.is_remote(path) or (path / _COMMITTED).exists())


def steps_in(folder: epath.Path) -> list[int]:
    """Steps of the complete checkpoints, ascending, whether they are sound or not."""
    if not folder.exists():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit() and is_complete(path))


def remove(folder: epath.Path, step: int) -> None:
    """Deletes a checkpoint so that no half of it is ever taken for one."""
    path = folder / str(step)
    if files.is_remote(folder):
        (path / _COMMITTED).unlink(missing_ok=True)
        path.rmtree()
        return
    (folder / _DELETED).mkdir(exist_ok=True)
    path.rename(folder / _DELETED / str(step))
    empty_bin(folder)


def empty_bin(folder: epath.Path) -> None:
    """Deletes what an interrupted `remove` has left."""
    if (folder / _DELETED).exists():
        shutil.rmtree(folder / _DELETED)


def set_aside(folder: epath.Path, step: int) -> epath.Path:
    """Moves a checkpoint that cannot be used out of the way of a new one of this step; returns where it is."""
    place = folder / _DAMAGED
    place.mkdir(exist_ok=True)
    names = (str(step), *(f"{step}-{i}" for i in range(2, 1000)))
    target = next(place / name for name in names if not (place / name).exists())
    return (folder / str(step)).rename(target)


def _chosen(folder: epath.Path, step: int | None) -> list[int]:
    """The steps to try, best first: `step` alone, or all from the newest; raises UsageError if there is none."""
    steps = steps_in(folder)
    if not steps:
        raise UsageError(f"no checkpoint in {folder}")
    if step is not None and step not in steps:
        raise UsageError(f"no checkpoint of step {step} in {folder}; there are: {', '.join(map(str, steps))}")
    return steps[::-1] if step is None else [step]


def _verify(path: epath.Path) -> bool:
    """Whether the checkpoint is sealed and all is as it was written; processes share the work and agree.

    Raises Damage if something is not. False: it was not sealed, so that only reading it will tell.
    """
    problem, sealed = "", False
    try:
        stored = seal.read_seal(path)
        if sealed := stored is not None:
            seal.check(path, stored, jax.process_index(), jax.process_count())
    except (seal.Damage, OSError) as error:
        problem = " ".join(str(error).split()) or type(error).__name__
    if problem := hosts.first_text(problem):
        raise seal.Damage(problem)
    return sealed


def _read(read: Callable[[int], T], number: int) -> T:
    """`read(number)`. Whatever fails on one of the processes becomes Damage on all.

    Orbax raises all kinds for damaged files, Exception itself among them.
    """
    problem = ""
    try:
        with quiet.orbax():
            found = read(number)
    except UsageError:
        raise
    except Exception as error:
        problem = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if problem := hosts.first_text(problem):
        raise seal.Damage(problem)
    return found


def _first_sound(folder: epath.Path, step: int | None, read: Callable[[int], T]) -> tuple[T, int]:
    """`read(step)` of the newest checkpoint that is sound (or of `step`), and its step.

    Says of each that is skipped why. Raises UsageError if none is left, or a sound one is of something else.
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
                    f"checkpoint of step {number} in {folder} is sound, but not of what the config says ({error})"
                ) from error
            problems.append((number, error))
            if step is None:
                say(f"checkpoint of step {number} skipped, it is damaged: {error}")
            continue
        if not sealed:
            say(f"checkpoint of step {number} has no checksums (its run was stopped, or is old); it could be read")
        return found, number
    number, error = problems[0]
    if step is not None:
        raise UsageError(f"checkpoint of step {number} in {folder} is damaged or of something else ({error})")
    tried = ", ".join(str(number) for number, _ in problems)
    raise UsageError(
        f"no checkpoint in {folder} can be read; all are damaged or of something else: {tried} "
        f"({number}: {error}); move the folder away to start anew"
    )


def open_manager(
    folder: epath.Path,
    state: ocp.PyTreeCheckpointHandler | None = None,
    options: ocp.CheckpointManagerOptions | None = None,
) -> ocp.CheckpointManager:
    """Orbax's manager of the checkpoints in a folder, for states of any structure and for parts of them.

    Args:
      folder: of the checkpoints, see `folder_of`.
      state: what reads and writes states; by default Orbax's handler of any tree.
      options: of the manager.
    """
    handlers = {"state": state or ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder, item_names=tuple(handlers), item_handlers=handlers, options=options)


def entries(workdir: epath.PathLike) -> tuple[str, ...]:
    """Names of the parts of the newest state of a workdir, such as "ema" and "opt_state"; none without a checkpoint."""
    folder = folder_of(workdir)
    steps = steps_in(folder)
    if not steps:
        return ()
    with open_manager(folder) as manager:
        return tuple(manager.item_metadata(steps[-1])["state"].tree)


def restore(workdir: epath.PathLike, abstract: Tree, step: int | None = None) -> tuple[Tree, dict]:
    """State and meta of `step`, or of the newest sound checkpoint; says what was skipped.

    Args:
      workdir: workdir of the run.
      abstract: tree of ShapeDtypeStruct, every leaf with the sharding it should have: any mesh, any number of hosts.
      step: a step that was saved.

    Raises:
      UsageError: there is no checkpoint, or not of that step, or none can be read, or it is not a whole state.
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
    """Only the EMA parameters, on the default device, and their step; of `step` or the newest sound checkpoint.

    Raises UsageError if there is none, or it cannot be read.
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
