"""Predictions as those of another scene, the same however scenes are batched."""

import numpy as np
import pytest

from mmgen_jax.metrics.shuffled import Shuffled


@pytest.mark.parametrize("sizes", [(6,), (1, 1, 1, 1, 1, 1), (2, 3, 1)])
def test_each_scene_gets_what_was_predicted_of_the_scene_before(sizes):
    made, valid = np.arange(6.0)[:, None, None], np.array([1, 0, 1, 1, 1, 0], bool)
    shuffled, parts, start = Shuffled(), [], 0
    for size in sizes:
        rows = slice(start, start + size)
        parts.append(shuffled({"depth": made[rows]}, valid[rows]))
        start += size
    values = np.concatenate([part["depth"] for part, _ in parts])[:, 0, 0]
    there = np.concatenate([rows for _, rows in parts])
    assert there.tolist() == [False, *valid[:-1]]  # the first has nothing, and what lacked its condition counts nowhere
    np.testing.assert_array_equal(values[there], np.arange(5)[valid[:-1]])


def test_all_are_valid_unless_it_is_said_otherwise():
    assert Shuffled()({"depth": np.zeros((3, 2, 2))})[1].tolist() == [False, True, True]
