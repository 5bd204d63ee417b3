"""Compares ways of training by runs of the same seeds, whose common luck cancels in the differences."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

Rows = dict[str, dict[str, float]]


def compared(
    scores: Mapping[str, Sequence[Mapping[str, float]]], base: str, metrics: Sequence[str]
) -> tuple[Rows, Rows]:
    """Means of scores, and how far they are from those of one way.

    Args:
      scores: way -> scores of each seed, in the same order in all.
      base: the way that others are compared with.
      metrics: the scores that count.

    Returns:
      way -> metric -> mean over the seeds;
      way, except `base` -> metric -> mean of the differences from `base` at the same seed, and "metric +-" -> its
      standard error; empty with one seed, which tells no spread.
    """
    means = {name: {m: statistics.mean(one[m] for one in runs) for m in metrics} for name, runs in scores.items()}
    apart: Rows = {}
    for name, runs in scores.items():
        for m in metrics if len(runs) > 1 and name != base else ():
            found = [one[m] - other[m] for one, other in zip(runs, scores[base], strict=True)]
            row = {m: statistics.mean(found), f"{m} +-": statistics.stdev(found) / len(found) ** 0.5}
            apart.setdefault(name, {}).update(row)
    return means, apart
