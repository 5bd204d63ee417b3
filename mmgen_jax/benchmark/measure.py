"""Times programs in turns, so that whatever else the machine does affects all of them alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

Run = Callable[[int], float]  # makes this many calls, waits for the last one, and returns the seconds that they took

WARM_UP = 2  # number of calls before timing; the first one compiles
MOST = 10_000  # most calls that are timed at once


def calls_for(run: Run, seconds: float) -> int:
    """Makes calls to warm up, and returns how many calls take about `seconds`, at most `MOST`.

    A few calls may be answered from what was read ahead: their number is doubled until they take a share of the time.
    """
    for _ in range(WARM_UP):
        run(1)
    calls = 1
    while (took := run(calls)) < seconds / 4 and calls < MOST:
        calls = min(2 * calls, MOST)
    return min(MOST, max(1, math.ceil(calls * seconds / max(took, 1e-9))))


def interleaved(runs: Mapping[str, Run], repeats: int, seconds: float) -> dict[str, list[float]]:
    """Measures seconds per call of each program `repeats` times; they take turns, every other round in reverse."""
    calls = {name: calls_for(run, seconds) for name, run in runs.items()}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name in list(runs)[:: -1 if repeat % 2 else 1]:
            found[name].append(runs[name](calls[name]) / calls[name])
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> dict[str, float]:
    """`spread` of the ratios of values that were measured in the same round."""
    return spread([a / b for a, b in zip(numerator, denominator, strict=True)])
