"""Processes share all work, once, and a process that is none of them is named."""

import pytest

from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import ALL, Share


@pytest.mark.parametrize("count", [0, 1, 5, 7, 64])
@pytest.mark.parametrize("workers", [1, 2, 3, 7, 9])
def test_shares_are_all_of_it_once_and_even(count, workers):
    shares = [Share(i, workers).check() for i in range(workers)]
    assert sorted(x for share in shares for x in share.dealt(range(count))) == list(range(count))
    blocks = [share.block(count) for share in shares]
    assert [x for block in blocks for x in block] == list(range(count))
    for sizes in ([len(share.dealt(range(count))) for share in shares], [len(block) for block in blocks]):
        assert max(sizes) - min(sizes) <= 1


def test_one_process_has_all():
    assert ALL.is_all and ALL.block(5) == range(5) and list(ALL.dealt("abc")) == ["a", "b", "c"]


@pytest.mark.parametrize("share", [Share(2, 2), Share(-1, 2), Share(0, 0), Share(1, -3)])
def test_a_process_that_is_none_of_them_is_named(share):
    with pytest.raises(UsageError, match=f"--worker is {share.worker} of --workers={share.workers}; allowed: 0 to"):
        share.check()
