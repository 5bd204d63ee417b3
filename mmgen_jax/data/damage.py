"""Records that cannot be read: each is named, counted and replaced, and too many of them end the run.

Which record takes the place of a damaged one depends on the number of that one alone, so that a run that resumes, or
has another number of hosts or of reading processes, sees the same samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grain.python as grain
import numpy as np

from mmgen_jax.system.errors import RunError, UsageError

REPLACED = "replaced"  # entry of a sample: number of the damaged record that it replaces, else -1
_TRIES = 100  # records tried in a row before giving up


class DamagedRecord(UsageError):
    """One record of a data set cannot be read; the message names it."""


def stand_in(index: int, attempt: int, count: int) -> int:
    """Number, below `count`, of the record to try in place of `index`; attempt 0 is the record itself."""
    return index if attempt == 0 else int(np.random.default_rng((index, attempt)).integers(count))


@dataclass(frozen=True)
class Mended:
    """Decoded samples by number, with damaged records replaced and marked under `REPLACED`. Can be pickled."""

    source: Sequence
    decode: tuple[grain.MapTransform, ...]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> dict:
        """The sample of one record. Raises DamagedRecord, and UsageError for what is wrong with all records."""
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
        """What was wrong with record `index`, which was replaced, and with those tried before a sound one."""
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
    """Counts damaged records of a run against what is allowed; each process counts what it reads.

    The share `allowed` refers to the records read so far, or to the size of the split as long as fewer were read.
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
        allowed: share of records that may be damaged, at least 0; 0 ends the run at the first one.
        total: records of the split.
        tell: says a line to the user.
        add_up: sum over all processes of an array of integers.
        found: damaged ones of all processes so far, where a run resumes.
        read: records that all processes have read so far.
        """
        self._allowed, self._total, self._tell, self._add_up = allowed, total, tell, add_up
        self._found, self._read = found, read  # counts of all processes when they were last added up
        self._mine, self._mine_read = 0, 0  # counts of this process since then
        self._named: set[int] = set()

    def note(self, replaced: np.ndarray, describe: Callable[[int], list[str]]) -> None:
        """Counts one batch; `replaced` int [B] as in `REPLACED`. Raises RunError if there are too many."""
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
        """Damaged records that all processes together have met; all must call it. Raises RunError for too many."""
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
