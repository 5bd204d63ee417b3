"""Named streams of random numbers, so that no two draws from one seed ever use the same key.

JAX derives keys in two ways that overlap: `fold_in(key, i)` equals `split(key, n)[i]`. If one function splits a key and
another folds a small number into it, a key is used twice without any warning. Here keys are derived by name. The name
becomes a large number (its CRC-32) that no counter reaches, and counters (steps, numbers of samples) are folded only
into streams that hold nothing else. `jax.random.split` is used only by the innermost draws, whose key nobody else has.
"""

from __future__ import annotations

import zlib

import jax
import numpy as np


def number(name: str) -> np.uint32:
    """The number that `stream` folds in for a name; at least 2^16, so that no counter below that collides with it."""
    value = np.uint32(zlib.crc32(name.encode()))
    assert value >= 2**16, f"choose another name than {name!r}"
    return value


def stream(key: jax.Array, name: str) -> jax.Array:
    """The key of the stream `name` within a key."""
    return jax.random.fold_in(key, number(name))


def of_seed(seed: int | jax.Array, name: str) -> jax.Array:
    """The key of the stream `name` of a seed (int, at least 0)."""
    return stream(jax.random.key(seed), name)
