"""Flips single bits of files, as bad memory and bad disks do."""

import contextlib

import numpy as np
import pytest
from annotations import unchecked

from mmgen_jax.system.errors import UsageError


def flips(path, count=60):
    """Yields (text that names the flip) with one other bit flipped each time; the file is as before in between."""
    data = path.read_bytes()
    places = np.random.default_rng(len(data)).integers(0, 8 * len(data), count)
    for place in places.tolist():
        with flipped(path, place):
            yield f"bit {place} of {path.name}"


def refused(load, most, *words):
    """Asserts that `load()` ends in one line of less than `most` characters that has all words."""
    with unchecked(), pytest.raises(UsageError) as caught:
        load()
    text = str(caught.value)
    assert "\n" not in text and len(text) < most and all(word in text for word in words), text


@contextlib.contextmanager
def flipped(path, place):
    """Within the block bit `place` of the file is another."""
    data = path.read_bytes()
    changed = bytearray(data)
    changed[place // 8] ^= 1 << place % 8
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(data)
