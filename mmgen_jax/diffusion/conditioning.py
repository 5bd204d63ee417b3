"""Draws the roles of modalities: which are given, which are noisy and how much, which are supervised, and the task row.

These are arrays, which are made here and nowhere else. The training mix is a table of rows, each of which describes a
share of the global batch. The published mix is

    (0.50, "none", 0.00, "rgb"),    nothing given, only rgb in the loss
    (0.25, "none", 0.00, "drop"),   nothing given, all in the loss except randomly dropped pairs
    (0.25, "one",  0.01, "drop"),   one modality given at t ~ U(0, 0.01), the others in the loss except dropped pairs

A new task is a new row. Sampling uses the same rows of the task table (`task_row`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from mmgen_jax.diffusion import keys
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError, choice

TimeSampler = Callable[[jax.Array, tuple[int, ...]], jax.Array]

TIME_SAMPLERS: dict[str, TimeSampler] = {
    "uniform": jax.random.uniform,
    # "Logit-normal" of Esser et al. 2024: t = sigmoid(n) with standard normal n puts more samples at middle times.
    "logit_normal": lambda key, shape: jax.nn.sigmoid(jax.random.normal(key, shape)),
}


@dataclass(frozen=True)
class Row:
    """One row of the training mix.

    Attributes:
      share: fraction of the global batch.
      given_sets: bool [K, M], the sets of modalities that may be given; one of them is drawn for each sample.
      given_time: given modalities have t ~ U(0, given_time); 0 means exactly clean.
      supervised: bool [M], modalities whose velocity counts in the loss; given ones never count.
      droppable: whether pairs of a sample and a modality (except the first one) may be dropped from the loss.
    """

    share: float
    given_sets: np.ndarray
    given_time: float
    supervised: np.ndarray
    droppable: bool


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditions:
    """The roles of a batch: times t float [B, M], task rows int [B], given and supervised bool [B, M]."""

    t: Float[Array, "B M"]
    task: Int[Array, " B"]
    given: Bool[Array, "B M"]
    supervised: Bool[Array, "B M"]


def subset(names: str, modalities: Sequence[str]) -> np.ndarray:
    """Parses names such as "rgb+depth" to bool [M]. Raises UsageError for an unknown name."""
    wanted = [choice("modality", name.strip(), modalities) for name in names.split("+")]
    return np.array([m in wanted for m in modalities])


def given_sets(given: str, modalities: Sequence[str]) -> np.ndarray:
    """Parses "none", "one", "any" (every non-empty proper subset) or names such as "rgb+depth" to bool [K, M]."""
    count = len(modalities)
    if given == "none":
        return np.zeros((1, count), bool)
    if given == "one":
        return np.eye(count, dtype=bool)
    if given == "any":
        sets = np.array(list(itertools.product((False, True), repeat=count)))
        return sets[(sets.sum(1) > 0) & (sets.sum(1) < count)]
    return subset(given, modalities)[None]


def parse_mix(rows: Sequence[Sequence], modalities: Sequence[str]) -> tuple[Row, ...]:
    """Parses rows (share, given, given_time, supervised) of the settings.

    `supervised` is "all", "drop" (all, except randomly dropped pairs) or names such as "rgb". Raises UsageError for
    shares that do not add up to 1, for times outside [0, 1], for unknown names, and for rows that supervise nothing.
    """
    parsed = []
    for row in rows:
        if len(row) != 4:
            raise UsageError(f"mix row {tuple(row)!r} needs 4 entries: share, given, given_time, supervised")
        share, given, given_time, supervised = row
        if not 0 <= given_time <= 1:
            raise UsageError(f"given_time of mix row {tuple(row)!r} is {given_time}; allowed: 0 to 1")
        everything = supervised in ("all", "drop")
        counted = np.ones(len(modalities), bool) if everything else subset(supervised, modalities)
        sets = given_sets(given, modalities)
        if not (counted & ~sets).any():
            raise UsageError(f"mix row {tuple(row)!r} counts nothing in the loss; given modalities never count")
        parsed.append(Row(float(share), sets, float(given_time), counted, supervised == "drop"))
    total = sum(row.share for row in parsed)
    if not abs(total - 1) <= 1e-6 or any(row.share < 0 for row in parsed):
        raise UsageError(f"shares of the mix are {[row.share for row in parsed]}; they must be >= 0 and add up to 1")
    return tuple(parsed)


def row_sizes(rows: Sequence[Row], batch: int) -> list[int]:
    """Number of samples of each row in a global batch. Cumulative shares are rounded, so they add up to `batch`."""
    edges = np.rint(np.cumsum([0.0] + [row.share for row in rows]) * batch).astype(int)
    return np.diff(edges).tolist()


def task_row(given: Bool[Array, "B M"]) -> Int[Array, " B"]:
    """Row of the task table: m + 1 if modality m alone is given, else 0; the times say which modalities are clean."""
    alone = given.sum(-1) == 1
    return jnp.where(alone, jnp.argmax(given, -1) + 1, 0).astype(jnp.int32)


def _keep_pairs(key: jax.Array, droppable: np.ndarray, count: int) -> Bool[Array, "B M"]:
    """Draws which pairs of sample and modality are kept: bool [B, M], False at dropped pairs.

    The number of dropped pairs is uniform over 0 .. n - 1, where n is the number of pairs of droppable samples.
    """
    total = int(droppable.sum()) * count
    keep = jnp.ones((len(droppable), count), bool)
    if total == 0:
        return keep
    number_key, order_key = jax.random.split(key)
    number = jax.random.randint(number_key, (), 0, total)
    kept = jax.random.permutation(order_key, total) >= number
    keep = keep.at[np.flatnonzero(droppable)].set(kept.reshape(-1, count))
    return keep.at[:, 0].set(True)  # the published recipe never drops the first modality, rgb


def draw(key: jax.Array, rows: Sequence[Row], present: Bool[AnyArray, "B M"], time_sampler: TimeSampler) -> Conditions:
    """Draws the conditions of one global batch. Row i of the mix describes the next `row_sizes(...)[i]` samples.

    Args:
      key: a key that depends on seed and step.
      rows: the training mix.
      present: which modalities each sample has. An absent one is pure noise (t = 1), neither given nor supervised.
      time_sampler: (key, shape) -> t in [0, 1]; all modalities of a sample that are not given share one t.
    """
    batch, count = present.shape
    sizes = row_sizes(rows, batch)

    picked, ceiling, counted = [], [], []
    row_keys = jax.random.split(keys.stream(key, "given"), len(rows))
    for row, size, row_key in zip(rows, sizes, row_keys, strict=True):
        picks = jax.random.randint(row_key, (size,), 0, len(row.given_sets))
        picked.append(jnp.asarray(row.given_sets)[picks])
        ceiling.append(np.full((size, 1), row.given_time, np.float32))
        counted.append(np.broadcast_to(row.supervised, (size, count)))
    given = jnp.concatenate(picked) & present
    droppable = np.concatenate([np.full(size, row.droppable) for row, size in zip(rows, sizes, strict=True)])

    common = time_sampler(keys.stream(key, "times"), (batch, 1))
    clean = jax.random.uniform(keys.stream(key, "times of the given"), (batch, 1)) * np.concatenate(ceiling)
    t = jnp.where(given, clean, common)
    t = jnp.where(present, t, 1.0)
    kept = _keep_pairs(keys.stream(key, "dropped pairs"), droppable, count)
    supervised = kept & np.concatenate(counted) & ~given & present
    return Conditions(t, task_row(given), given, supervised)
