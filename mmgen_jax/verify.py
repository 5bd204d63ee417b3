"""Checks that the checkpoints of a run are as they were written and can be read: reads every byte.

python -m mmgen_jax.verify --workdir=runs/a
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of one run.", required=True)
    command.parse()  # before the imports below, which take seconds

from collections.abc import Sequence

from etils import epath

from mmgen_jax.checkpoints import restore, seal
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import RunError, UsageError


def state_of(path: epath.Path) -> str:
    """One line about a checkpoint. Raises Damage if a file differs from its checksum, or if it cannot be restored."""
    stored = restore.examine(path)
    if stored is None:
        return "no checksums (its run was stopped before they were written, or is old); it can be read"
    size = sum(size for size, _ in stored.files.values())
    loss = "" if stored.loss is None else f", loss {stored.loss:.4f}"
    return f"sound, {size / 1e6:.1f} MB in {len(stored.files)} files{loss}"


def verify(workdir: epath.PathLike) -> None:
    """Prints whether each checkpoint is sound. Raises UsageError if there is none, and RunError if one is damaged."""
    folder = restore.folder_of(workdir)
    steps, damaged = restore.steps_in(folder), 0
    if not steps:
        raise UsageError(f"no checkpoint in {folder}")
    for step in steps:
        try:
            say(f"step {step}: {state_of(folder / str(step))}")
        except seal.Damage as error:
            damaged += 1
            say(f"step {step}: damaged: {error}")
    if damaged:
        raise RunError(f"{damaged} of {len(steps)} checkpoints in {folder} damaged; training and sampling skip them")


def main(argv: Sequence[str]) -> None:
    del argv
    verify(flags.FLAGS.workdir)


if __name__ == "__main__":
    command.run(main)
