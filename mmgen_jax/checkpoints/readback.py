"""Reads a little of a checkpoint, which shows whether it can be restored.

Checksums say that files are as they were written, not that what was written is a checkpoint: Orbax has called a save
successful that left its arrays where nothing finds them.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from mmgen_jax.checkpoints.seal import Damage
from mmgen_jax.system import rules

STATE, META = "state", "meta"  # the parts of a checkpoint, and their folders
_COUNT = rules.Rule(lambda v: isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**63, "a count")
_META_RULES = {"samples": _COUNT, "damaged": _COUNT, "data": rules.TEXT}  # what training continues from


def check(path: epath.Path) -> None:
    """Opens every array of a checkpoint, reads the smallest one of each entry of its state, and its meta data.

    A process can do this alone. Raises Damage if something is missing, or is not what training writes.
    """
    try:
        handler = ocp.PyTreeCheckpointHandler()
        tree = handler.metadata(path / STATE).tree  # opens every array
        options = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        wanted = {name: _smallest(entry) for name, entry in tree.items()}
        handler.restore(path / STATE, args=ocp.args.PyTreeRestore(item=wanted, restore_args=options))
        meta = ocp.JsonCheckpointHandler().restore(path / META, args=ocp.args.JsonRestore())
    except Exception as error:  # Orbax raises many types for damaged files, even Exception itself
        raise Damage(told(error)) from error
    check_meta(meta)


def check_meta(meta: object) -> None:
    """Raises Damage unless training can continue from the meta data: a table that says how many samples were seen."""
    if not isinstance(meta, dict):
        raise Damage(f"its {META} data are of type {type(meta).__name__}, not a table")
    for name, rule in _META_RULES.items():
        if (name in meta or name == "samples") and not rule.allows(meta.get(name)):
            raise Damage(f"{name} in its {META} data is {str(meta.get(name))[:40]!r}; it must be {rule.words}")


def told(error: Exception) -> str:
    """An exception of Orbax, whose messages have many lines, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _smallest(entry: Any) -> Any:
    """A tree of array metadata, with Orbax's placeholder in place of all arrays except the smallest one."""
    leaves, structure = jax.tree.flatten(entry)
    first = min(range(len(leaves)), key=lambda i: np.prod(leaves[i].shape, dtype=float), default=0)
    chosen = (jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    kept = [leaf if i == first else ocp.PLACEHOLDER for i, leaf in enumerate(chosen)]
    return jax.tree.unflatten(structure, kept)
