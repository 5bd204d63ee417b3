"""Means and standard deviations of the scores of several seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from mmgen_jax.metrics.report import Scores


def summarised(found: Sequence[Scores]) -> tuple[Scores, Scores]:
    """Mean and standard deviation (of a sample: K - 1) of every score over seeds.

    Of one seed these are its own scores, unchanged, and nothing. A seed without a number for a score does not count in
    it; a score that one seed alone has varies by NaN, which says that this is not known.
    """
    if len(found) == 1:
        return found[0], {}
    return _each(found, statistics.fmean, 1), _each(found, statistics.stdev, 2)


def _each(found: Sequence[Scores], of: Callable[[Sequence[float]], float], least: int) -> Scores:
    result: Scores = {}
    for column, metric in _names(found):
        every = (columns.get(column, {}).get(metric, math.nan) for columns in found)
        known = [value for value in every if not math.isnan(value)]
        result.setdefault(column, {})[metric] = of(known) if len(known) >= least else math.nan
    return result


def _names(found: Sequence[Scores]) -> dict[tuple[str, str], None]:
    """All names of columns and their scores, in the order in which they first occur."""
    return dict.fromkeys(
        (column, metric) for columns in found for column, values in columns.items() for metric in values
    )
