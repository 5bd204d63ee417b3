"""Work that several processes share without talking to each other, as those of several machines do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from mmgen_jax.system.errors import UsageError

T = TypeVar("T")


class Share(NamedTuple):
    """The share of one process, number `worker`, from 0, of `workers`, as `command.define_share` has it."""

    worker: int = 0
    workers: int = 1

    @property
    def is_all(self) -> bool:
        return self.workers == 1

    def check(self) -> Share:
        """Returns itself; raises UsageError if there is no such process."""
        if not 0 <= self.worker < self.workers:
            raise UsageError(f"--worker is {self.worker} of --workers={self.workers}; allowed: 0 to workers - 1")
        return self

    def dealt(self, items: Sequence[T]) -> Sequence[T]:
        """Every `workers`-th item."""
        return items[self.worker :: self.workers]

    def block(self, count: int) -> range:
        """Neighbours among 0 .. count - 1, of which the first process has the first; sizes differ by at most 1."""
        ends = [count * number // self.workers for number in (self.worker, self.worker + 1)]
        return range(*ends)


ALL = Share()
