"""The settings that a run was made with: those it began with, and every change with the step that it came at.

`config.json` in the workdir has the first ones and is never written again; `changes.jsonl` has one line for each later
start that changed some.
"""

from __future__ import annotations

import functools
import json

from etils import epath
from flax import traverse_util

from mmgen_jax.settings import Settings
from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError

FIRST, CHANGES = "config.json", "changes.jsonl"
Changes = dict[str, tuple[object, object]]  # dotted name of a setting -> its value before, its value now

_flat = functools.partial(traverse_util.flatten_dict, sep=".")
_ELSEWHERE = "distributed."  # says where a process runs, not what it does
# What is settled when a run begins, and why another value cannot take effect later.
_ONCE = {
    "train.init_from": "the run has weights of its own",
    "optim.name": "its optimizer has a state that the other cannot use",
    "autoencoder.whitening": "the run keeps the autoencoder that was fitted for it",
}


def check(workdir: epath.PathLike, chosen: Settings) -> Changes:
    """What differs from the settings of the last start; nothing in a new workdir.

    Settings that only one of the two versions of this package knows are left out. Raises UsageError for a change that
    could not take effect, and for a file that is damaged.
    """
    changes = _difference(last(epath.Path(workdir)), json.loads(chosen.to_json()))
    for name, why in _ONCE.items():
        if name in changes:
            before, now = changes[name]
            raise UsageError(f"config key {name} is {now!r}, but {workdir} was begun with {before!r}: {why}")
    return changes


def write(workdir: epath.PathLike, chosen: Settings, step: int, changes: Changes) -> None:
    """Adds to the history what a start after `step` steps changes, see `check`."""
    workdir = epath.Path(workdir)
    if not (workdir / FIRST).exists():
        files.write(workdir / FIRST, chosen.to_json().encode())
    if changes:
        path = workdir / CHANGES
        before = path.read_bytes() if path.exists() else b""
        files.write(path, before + (json.dumps({"step": step, "changes": changes}) + "\n").encode())


def last(workdir: epath.Path) -> dict[str, object]:
    """Dotted name -> value of the settings of the last start; empty if there was none."""
    if not (workdir / FIRST).exists():
        return {}
    path = workdir / FIRST
    try:
        values = _flat(reading.json_file(path))
        path = workdir / CHANGES
        for line in reading.text(path).splitlines() if path.exists() else ():
            values |= {name: now for name, (_, now) in reading.parse_json(line, path)["changes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({type(error).__name__}): what this start changes is not known") from error
    return values


def _difference(before: dict[str, object], now: dict[str, object]) -> Changes:
    after = _flat(now)
    names = [name for name in after if name in before and not name.startswith(_ELSEWHERE)]
    return {name: (before[name], after[name]) for name in names if before[name] != after[name]}
