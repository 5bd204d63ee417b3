"""Orbax: asynchronous checkpoints of the train state together with the data position."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from mmgen_jax.errors import UsageError
from mmgen_jax.train_state import TrainState

FOLDER = "checkpoints"


def make_manager(workdir: epath.PathLike, every: int, keep: int) -> ocp.CheckpointManager:
    """Manager over `workdir`/checkpoints that saves every `every` steps and keeps the last `keep`."""
    options = ocp.CheckpointManagerOptions(
        save_decision_policy=policies.FixedIntervalPolicy(every),
        preservation_policy=policies.LatestN(keep),
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(epath.Path(workdir).resolve() / FOLDER, options=options)


def save(manager: ocp.CheckpointManager, step: int, state: TrainState, meta: dict, *, force: bool = False) -> bool:
    """Starts saving if `step` is due (or `force`); returns whether it did. `meta` must be JSON."""
    if step in manager.all_steps():
        return False
    args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
    return manager.save(step, args=args, force=force)


def _find(manager: ocp.CheckpointManager, step: int | None) -> int:
    """`step`, or the newest where it is None; raises UsageError if there is none."""
    steps, folder = sorted(manager.all_steps()), manager.directory
    if not steps:
        raise UsageError(f"no checkpoint in {folder}")
    if step is not None and step not in steps:
        raise UsageError(f"no checkpoint of step {step} in {folder}; there are: {', '.join(map(str, steps))}")
    return steps[-1] if step is None else step


@contextlib.contextmanager
def _reading(manager: ocp.CheckpointManager, step: int) -> Iterator[None]:
    """Whatever fails within becomes a UsageError that names the checkpoint: it is damaged, or of something else."""
    hook = sys.unraisablehook

    def quiet(event) -> None:
        # Threads of TensorStore answer reads that Orbax gave up at the first failure, and say so on stderr.
        if str(event.exc_value) != "Event loop is closed":
            hook(event)

    sys.unraisablehook = quiet  # for good after a failure, as such answers come late
    try:
        yield
    except Exception as error:  # Orbax raises all kinds for damaged files, Exception itself among them
        cause = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        older = max((s for s in manager.all_steps() if s < step), default=None)
        advice = "" if older is None else f"; delete its folder to go on from step {older}"
        raise UsageError(
            f"checkpoint of step {step} in {manager.directory} is damaged or of something else{advice} ({cause})"
        ) from error
    sys.unraisablehook = hook


def _flexible(folder: epath.Path) -> ocp.CheckpointManager:
    """A manager that reads parts of states, whatever is in them."""
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    return ocp.CheckpointManager(folder, item_names=tuple(handlers), item_handlers=handlers)


def restore(manager: ocp.CheckpointManager, abstract: TrainState, step: int | None = None) -> tuple[TrainState, dict]:
    """State and meta of `step` (default: the latest).

    Args:
      manager: over the workdir.
      abstract: tree of ShapeDtypeStruct, every leaf with the sharding it should have.
      step: a step that was saved.

    Raises:
      UsageError: there is no checkpoint, or not of that step, or it cannot be read, or it is not a whole state.
    """
    step = _find(manager, step)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
    with _flexible(manager.directory) as other, _reading(other, step):
        weights_only = "params" not in other.item_metadata(step)["state"].tree
    if weights_only:
        raise UsageError(
            f"{manager.directory.parent} has averaged weights alone and cannot be continued; "
            "start a new run from them by train.init_from, or convert the checkpoint with --optimizer"
        )
    with _reading(manager, step):
        restored = manager.restore(step, args=args)
    return restored.state, restored.meta


def restore_ema(workdir: epath.PathLike, step: int | None = None) -> tuple[dict, int]:
    """Only the EMA parameters of a checkpoint, on the default device, and their step; for sampling.

    Raises UsageError if there is none, or it cannot be read.
    """
    folder = epath.Path(workdir).resolve() / FOLDER
    if not folder.exists():
        raise UsageError(f"no checkpoint in {folder}")
    with _flexible(folder) as manager:
        step = _find(manager, step)
        with _reading(manager, step):
            stored = manager.item_metadata(step)["state"].tree["ema"]
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            item = {"ema": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored)}
            options = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(sharding=device), item)
            wanted = ocp.args.PyTreeRestore(item=item, restore_args=options, partial_restore=True)
            restored = manager.restore(step, args=ocp.args.Composite(state=wanted))
    return restored["state"]["ema"], step
