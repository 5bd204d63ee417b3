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

REPLACED = "replaced"  # key of a sample: number of the damaged record that it stands for, else -1
_TRIES = 100


class DamagedRecord(UsageError):
    """One record of a data set cannot be read; the message names it."""


def stand_in(index: int, attempt: int, count: int) -> int:
    """Number of the record, of `count`, to try instead of a damaged one; `attempt` counts from 0, the record itself."""
    return index if attempt == 0 else int(np.random.default_rng((index, attempt)).integers(count))


@dataclass(frozen=True)
class Mended:
    """Decoded samples at random access, those of damaged records replaced; each says so under `REPLACED`. Picklable."""

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

    A share `allowed` of the records that were read, and of those of the split until so many were read, may be damaged.
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
        allowed: share, at least 0; 0 ends the run at the first.
        total: records of the split.
        tell: says a line to the user.
        add_up: sum over all processes of an array of integers.
        found: damaged ones of all processes so far, where a run resumes.
        read: records that all processes have read so far.
        """
        self._allowed, self._total, self._tell, self._add_up = allowed, total, tell, add_up
        self._found, self._read = found, read  # of all, when they were added up last
        self._mine, self._mine_read = 0, 0  # since then
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
