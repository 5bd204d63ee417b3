"""Means and standard deviations of the scores of several seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from mmgen_jax.metrics.report import Scores

Sections = dict[str, Scores]


def summarised(found: Sequence[Sections]) -> tuple[Sections, Sections]:
    """Mean and standard deviation (of a sample: K - 1) of every score over seeds.

    Of one seed these are its own scores, unchanged, and nothing. A seed without a number for a score does not count in
    it; a score that one seed alone has varies by NaN, which says that this is not known.
    """
    if len(found) == 1:
        return found[0], {}
    return _each(found, statistics.fmean, 1), _each(found, statistics.stdev, 2)


def _each(found: Sequence[Sections], of: Callable[[Sequence[float]], float], least: int) -> Sections:
    result: Sections = {}
    for section, column, metric in _names(found):
        every = (x.get(section, {}).get(column, {}).get(metric, math.nan) for x in found)
        known = [value for value in every if not math.isnan(value)]
        value = of(known) if len(known) >= least else math.nan
        result.setdefault(section, {}).setdefault(column, {})[metric] = value
    return result


def _names(found: Sequence[Sections]) -> dict[tuple[str, str, str], None]:
    """All names of scores, in the order in which they first occur."""
    return dict.fromkeys(
        (section, column, metric)
        for sections in found
        for section, columns in sections.items()
        for column, values in columns.items()
        for metric in values
    )
