"""Prints the log of a run as a short table.

python -m mmgen_jax.summary --log=runs/a/metrics.jsonl
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("log", None, "The metrics.jsonl of a run.")
    flags.DEFINE_integer("rows", 10, "Largest number of rows of the table.", lower_bound=1)
    flags.mark_flag_as_required("log")
    command.parse()  # before the imports below, which take seconds

from collections.abc import Sequence

import numpy as np
from etils import epath

from mmgen_jax.system import files, reading
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError, shown

Entries = list[dict[str, float]]


def read(path: epath.PathLike) -> Entries:
    """Reads the entries of a metrics file by step. An entry that a resumed run wrote again replaces the earlier one.

    Raises UsageError for a file that is missing, empty or damaged.
    """
    path = files.path_of(path, "log")
    if not path.exists():
        raise UsageError(f"log {str(path)!r} does not exist; it must be the metrics.jsonl of a run")
    entries = {}
    for number, line in enumerate(reading.contents(path).decode(errors="replace").splitlines(), 1):
        try:
            entry = reading.parse_json(line, "it")
            if wrong := [name for name, value in entry.items() if type(value) not in (int, float)]:
                raise ValueError(f"{wrong[0]!r} is {shown(entry[wrong[0]])}, not a number")
            entries[int(entry["step"])] = entry
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UsageError(f"line {number} of {str(path)!r} is not an entry of a log ({error})") from error
    if not entries:
        raise UsageError(f"log {str(path)!r} is empty; it must hold at least one entry")
    return [entries[step] for step in sorted(entries)]


def summarise(entries: Entries, rows: int) -> str:
    """Makes a Markdown table of at most `rows` rows, each with mean losses and the median rate of some entries."""
    losses = [key for key in entries[-1] if key.startswith("loss")]
    lines = [
        "| steps up to | " + " | ".join(key.removeprefix("loss/") for key in losses) + " | samples/s |",
        "|" + "---|" * (len(losses) + 2),
    ]
    for part in np.array_split(np.arange(len(entries)), min(rows, len(entries))):
        chosen = [entries[i] for i in part]
        means = [f"{np.mean([e.get(key, np.nan) for e in chosen]):.3f}" for key in losses]
        rate = np.median([e.get("samples_per_second", np.nan) for e in chosen])
        lines.append(f"| {chosen[-1]['step']:.0f} | {' | '.join(means)} | {rate:.0f} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    del argv
    say(summarise(read(flags.FLAGS.log), flags.FLAGS.rows))


if __name__ == "__main__":
    command.run(main)
