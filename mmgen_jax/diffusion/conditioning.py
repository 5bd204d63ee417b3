"""Draws the roles of modalities: which are given, ignored and generated, how noisy they are, and which are supervised.

A given modality is nearly clean, an ignored one is pure noise (t = 1), and all others are to be generated. These are
arrays, which are made here and nowhere else. The training mix is a table of rows, each of which describes a share of
the global batch. The published mix, in which nothing is ignored, is

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
    # The beginning alone, for models that are to answer in one call.
    "noise": lambda _, shape: jnp.ones(shape),
}


ROLES_BY_DEFAULT = ("none", "common")  # what a row ignores, and its times, where it does not say


@dataclass(frozen=True)
class Row:
    """One row of the training mix.

    Attributes:
      share: fraction of the global batch.
      given_sets: bool [K, M], the sets of modalities that may be given; one of them is drawn for each sample.
      ignored_sets: bool [K, M], the modalities that are ignored with each of these sets.
      given_time: given modalities have t ~ U(0, given_time); 0 means exactly clean.
      supervised: bool [M], modalities whose velocity counts in the loss; given ones never count.
      droppable: whether pairs of a sample and a modality (except the first one) may be dropped from the loss.
      own_times: whether each modality that is not given has a time of its own, and not one that all have in common.
    """

    share: float
    given_sets: np.ndarray
    ignored_sets: np.ndarray
    given_time: float
    supervised: np.ndarray
    droppable: bool
    own_times: bool


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditions:
    """The roles of a batch: times t float [B, M], task rows int [B], given and supervised bool [B, M].

    The ends r <= t float [B, M] of the ways whose average velocity is learned are there for flow maps only.
    """

    t: Float[Array, "B M"]
    task: Int[Array, " B"]
    given: Bool[Array, "B M"]
    supervised: Bool[Array, "B M"]
    r: Float[Array, "B M"] | None = None


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


def _roles(given: str, ignored: str, modalities: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of what is given and what is ignored, bool [K, M], that leaves something to generate."""
    nothing = np.zeros((1, len(modalities)), bool)
    others = given_sets(ignored, modalities)
    if ignored == "any":
        others = np.concatenate([nothing, others])
    pairs = [(g, i) for g in given_sets(given, modalities) for i in others if not (g & i).any() and not (g | i).all()]
    chosen = np.array(pairs, bool).reshape(-1, 2, len(modalities))
    return chosen[:, 0], chosen[:, 1]


def parse_mix(rows: Sequence[Sequence], modalities: Sequence[str]) -> tuple[Row, ...]:
    """Parses rows (share, given, given_time, supervised, ignored, times) of the settings; the last two may be left out.

    `supervised` is "all", "drop" (all, except randomly dropped pairs) or names such as "rgb"; `ignored` is "none",
    "one", "any" (any subset of the others, the empty one too) or names; `times` is "common" or "own". Raises UsageError
    for shares that do not add up to 1, times outside [0, 1], unknown names, and rows that supervise nothing.
    """
    parsed = []
    for row in rows:
        if not 4 <= len(row) <= 6:
            raise UsageError(
                f"mix row {tuple(row)!r} needs 4 to 6 entries: share, given, given_time, supervised, ignored, times"
            )
        entries: list = [*row, *ROLES_BY_DEFAULT[len(row) - 4 :]]
        share, given, given_time, supervised, ignored, times = entries
        if not 0 <= given_time <= 1:
            raise UsageError(f"given_time of mix row {tuple(row)!r} is {given_time}; allowed: 0 to 1")
        choice(f"times of mix row {tuple(row)!r}", times, ("common", "own"))
        everything = supervised in ("all", "drop")
        counted = np.ones(len(modalities), bool) if everything else subset(supervised, modalities)
        given_rows, ignored_rows = _roles(given, ignored, modalities)
        if not (counted & ~given_rows & ~ignored_rows).any():
            raise UsageError(
                f"mix row {tuple(row)!r} counts nothing in the loss; given and ignored modalities never count"
            )
        dropped = supervised == "drop"
        parsed.append(Row(float(share), given_rows, ignored_rows, float(given_time), counted, dropped, times == "own"))
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


def draw(
    key: jax.Array,
    rows: Sequence[Row],
    present: Bool[AnyArray, "B M"],
    time_sampler: TimeSampler,
    ends: bool = False,
) -> Conditions:
    """Draws the conditions of one global batch. Row i of the mix describes the next `row_sizes(...)[i]` samples.

    Args:
      key: a key that depends on seed and step.
      rows: the training mix.
      present: which modalities each sample has. An absent one is pure noise (t = 1), neither given nor supervised.
      time_sampler: (key, shape) -> t in [0, 1]; all modalities of a sample that are not given share one t, or have one
        each, as the row says.
      ends: whether ends r are drawn, for a flow map. What is generated then has t and r of two draws, the larger and
        the smaller one; what is given or ignored stays at r = t.
    """
    batch, count = present.shape
    sizes = row_sizes(rows, batch)

    picked, hidden, ceiling, counted = [], [], [], []
    row_keys = jax.random.split(keys.stream(key, "given"), len(rows))
    for row, size, row_key in zip(rows, sizes, row_keys, strict=True):
        picks = jax.random.randint(row_key, (size,), 0, len(row.given_sets))
        picked.append(jnp.asarray(row.given_sets)[picks])
        hidden.append(jnp.asarray(row.ignored_sets)[picks])
        ceiling.append(np.full((size, 1), row.given_time, np.float32))
        counted.append(np.broadcast_to(row.supervised, (size, count)))
    given = jnp.concatenate(picked) & present
    seen = present & ~jnp.concatenate(hidden)  # an absent modality is an ignored one
    droppable = np.repeat([row.droppable for row in rows], sizes)

    def times(shared: str, own: str) -> jax.Array:
        """Times [B, M] of what is generated, from two streams."""
        drawn = time_sampler(keys.stream(key, shared), (batch, 1))
        if any(row.own_times for row in rows):
            each = time_sampler(keys.stream(key, own), (batch, count))
            drawn = jnp.where(np.repeat([row.own_times for row in rows], sizes)[:, None], each, drawn)
        return drawn

    noisy = end = times("times", "own times")
    if ends:
        second = times("ends", "own ends")
        noisy, end = jnp.maximum(noisy, second), jnp.minimum(noisy, second)
    clean = jax.random.uniform(keys.stream(key, "times of the given"), (batch, 1)) * np.concatenate(ceiling)
    t, r = (jnp.where(seen, jnp.where(given, clean, time), 1.0) for time in (noisy, end))
    kept = _keep_pairs(keys.stream(key, "dropped pairs"), droppable, count)
    supervised = kept & np.concatenate(counted) & ~given & seen
    return Conditions(t, task_row(given), given, supervised, r if ends else None)
