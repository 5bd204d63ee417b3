"""Handles records that cannot be read: each is named, counted and replaced, and too many of them end the run.

The record that replaces a damaged one depends only on the number of the damaged one. So a run that resumes, or that has
another number of hosts or reading processes, sees the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grain.python as grain
import numpy as np

from mmgen_jax.system.errors import RunError, UsageError

REPLACED = "replaced"  # entry of a sample: the number of the damaged record that it replaces, or -1
_TRIES = 100  # number of records that are tried in place of one before giving up


class DamagedRecord(UsageError):
    """One record of a data set cannot be read; the message names it."""


def stand_in(index: int, attempt: int, count: int) -> int:
    """Number (below `count`) of the record to try in place of record `index`. Attempt 0 is the record itself."""
    return index if attempt == 0 else int(np.random.default_rng((index, attempt)).integers(count))


@dataclass(frozen=True)
class Mended:
    """A source of decoded samples, in which damaged records are replaced and marked under `REPLACED`. Picklable."""

    source: grain.RandomAccessDataSource
    decode: tuple[grain.MapTransform, ...]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> dict:
        """Reads the sample of one record.

        Raises DamagedRecord if it is damaged, and UsageError for a fault that all records must have.
        """
        sample = self.source[index]
        for transform in self.decode:
            sample = transform.map(sample)
        return sample

    def __getitem__(self, index: int) -> dict:
        index = int(index)
        for attempt in range(_TRIES):
            try:
                sample = self.read(stand_in(index, attempt, len(self)))
            except DamagedRecord as error:
                last = error
                continue
            return sample | {REPLACED: np.int64(index if attempt else -1)}
        raise DamagedRecord(f"{_TRIES} records in a row are damaged, the last one: {last}")

    def damages(self, index: int) -> list[str]:
        """Says what is wrong with record `index`, which was replaced, and with those that were tried in its place."""
        found = []
        for attempt in range(_TRIES):
            try:
                self.read(stand_in(index, attempt, len(self)))
            except DamagedRecord as error:
                found.append(str(error))
                continue
            break
        return found


class Tally:
    """Counts the damaged records of a run, and ends it if there are too many. Each process counts what it reads.

    The share `allowed` refers to the number of records read so far, or to the size of the split if that is larger.
    """

    def __init__(
        self,
        allowed: float,
        total: int,
        tell: Callable[[str], None],
        add_up: Callable[[np.ndarray], np.ndarray] = np.asarray,
        *,
        found: int = 0,
        read: int = 0,
    ):
        """Args:
        allowed: share of the records that may be damaged; 0 ends the run at the first damaged one.
        total: number of records of the split.
        tell: prints a line to the user.
        add_up: sums an array of integers over all processes.
        found: number of damaged records that all processes had met before this run resumed.
        read: number of records that all processes had read before.
        """
        self._allowed, self._total, self._tell, self._add_up = allowed, total, tell, add_up
        self._found, self._read = found, read  # the counts of all processes when they were last added up
        self._mine, self._mine_read = 0, 0  # the counts of this process since then
        self._named: set[int] = set()

    def note(self, replaced: np.ndarray, describe: Callable[[int], list[str]]) -> None:
        """Counts the damaged records of one batch, whose entry `REPLACED` is int [B]. Raises RunError for too many."""
        self._mine_read += len(replaced)
        for index in replaced[replaced >= 0].tolist():
            texts = describe(index)
            self._mine += len(texts)
            if index not in self._named:
                self._named.add(index)
                for text in texts:
                    self._tell(f"damaged, another record takes its place: {text}")
            self._check(self._found + self._mine, self._read + self._mine_read, texts[-1])

    def settle(self) -> int:
        """Returns how many damaged records all processes have met; all must call it. Raises RunError for too many."""
        mine, read = (int(n) for n in self._add_up(np.array([self._mine, self._mine_read])))
        self._found, self._read, self._mine, self._mine_read = self._found + mine, self._read + read, 0, 0
        self._check(self._found, self._read, "named above")
        return self._found

    def _check(self, found: int, read: int, last: str) -> None:
        if found > self._allowed * max(read, self._total):
            raise RunError(
                f"{found} damaged records in {read} that were read (the split has {self._total}), more than the share "
                f"{self._allowed:g} that config key data.max_damaged allows; the last one: {last}"
            )
