"""Orbax: asynchronous checkpoints of the train state together with the data position."""

from __future__ import annotations

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


def restore(manager: ocp.CheckpointManager, abstract: TrainState, step: int | None = None) -> tuple[TrainState, dict]:
    """State and meta of `step` (default: the latest).

    Args:
      manager: over the workdir.
      abstract: tree of ShapeDtypeStruct, every leaf with the sharding it should have.
      step: a step that was saved.

    Raises:
      UsageError: there is no checkpoint, or not of that step.
    """
    steps = sorted(manager.all_steps())
    folder = manager.directory
    if not steps:
        raise UsageError(f"no checkpoint in {folder}")
    if step is None:
        step = steps[-1]
    if step not in steps:
        raise UsageError(f"no checkpoint of step {step} in {folder}; there are: {', '.join(map(str, steps))}")
    args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
    restored = manager.restore(step, args=args)
    return restored.state, restored.meta


def restore_ema(workdir: epath.PathLike, step: int | None = None) -> tuple[dict, int]:
    """Only the EMA parameters of a checkpoint, on the default device, and their step; for sampling.

    Raises UsageError if there is none.
    """
    folder = epath.Path(workdir).resolve() / FOLDER
    if not folder.exists():
        raise UsageError(f"no checkpoint in {folder}")
    handlers = {"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
    with ocp.CheckpointManager(folder, item_names=tuple(handlers), item_handlers=handlers) as manager:
        steps = sorted(manager.all_steps())
        if not steps or (step is not None and step not in steps):
            wanted = "" if step is None else f" of step {step}"
            raise UsageError(f"no checkpoint{wanted} in {folder}; there are: {', '.join(map(str, steps)) or 'none'}")
        step = steps[-1] if step is None else step
        stored = manager.item_metadata(step)["state"].tree["ema"]
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        item = {"ema": jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored)}
        options = jax.tree.map(lambda _: ocp.ArrayRestoreArgs(sharding=device), item)
        wanted = ocp.args.PyTreeRestore(item=item, restore_args=options, partial_restore=True)
        restored = manager.restore(step, args=ocp.args.Composite(state=wanted))
    return restored["state"]["ema"], step
