"""Checks whether training helped, by two reports of `python -m mmgen_jax.evaluate`. The exit code is 1 if it did not.

python -m mmgen_jax.studies.learned --before=before.json --after=after.json
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("before", None, "Report of the model before training.", required=True)
    flags.DEFINE_string("after", None, "Report of the model after training.", required=True)
    command.parse()  # before the imports below

import sys

from mmgen_jax.system import reading
from mmgen_jax.system.errors import UsageError

# metric -> (label, whether less is better, smallest clear change: a factor for errors, a difference for shares)
METRICS = {
    "depth/absrel": ("depth AbsRel", True, 0.6),
    "normal/mean": ("normals, mean degrees", True, 0.6),
    "mask/miou": ("regions, mIoU", False, 0.2),
}


def improved(before: float, after: float, guess: float, less: bool, change: float) -> bool:
    """Whether a score is clearly better than before training, and better than a guess that ignores the picture."""
    if less:
        return after < change * before and after < guess
    return after > before + change and after > guess


def compare(before: dict, after: dict) -> tuple[str, list[str]]:
    """Returns a table, and the labels of the metrics that did not clearly improve."""
    old, new, guess = before["model"], after["model"], after["mean_image"]
    lines = [f"{'rgb -> the rest, held-out scenes':<42}{'before':>9}{'after':>9}{'mean image':>12}"]
    failed = []
    for key, (label, less, change) in METRICS.items():
        was, now, mean = (nan_if_none(scores.get(key)) for scores in (old, new, guess))
        good = improved(was, now, mean, less, change)
        arrow = f"{label} ({'less' if less else 'more'} is better)"
        lines.append(f"{arrow:<42}{was:>9.3f}{now:>9.3f}{mean:>12.3f}{'' if good else '  <-'}")
        failed += [] if good else [label]
    return "\n".join(lines), failed


def nan_if_none(value: float | None) -> float:
    """Returns the value, or NaN if there is none; every comparison with NaN is false."""
    return float("nan") if value is None else value


def main(argv: list[str]) -> int:
    del argv
    paths = flags.FLAGS.before, flags.FLAGS.after
    try:
        text, failed = compare(*(reading.json_file(path)["understanding"] for path in paths))
    except KeyError as error:
        raise UsageError(f"{' or '.join(paths)} is not a report of mmgen_jax.evaluate: {error} is missing") from error
    print(text)
    if failed:
        print(f"error: training did not clearly improve {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command.run(main)
