"""How far the modalities of samples agree, batch by batch, next to modalities that do not belong together."""

from __future__ import annotations

import numpy as np

from mmgen_jax.metrics import consistency
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import Averages, Values, added

Pair = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # values of samples, and what is predicted from their rgb


class Agreement:
    """Adds up `consistency.averages` of samples, and of the same samples with `consistency.shuffled` modalities.

    The shuffled scores are those of all samples at once, however they come in batches: as many samples are kept as a
    modality is moved by, and the first ones, whose modalities come from the last ones, are added in the end.

    Attributes:
      facts: what the data set says of itself.
    """

    def __init__(self, facts: Facts):
        self.facts = facts
        self._scores: Averages = {}
        self._shuffled: Averages = {}
        self._first: Pair | None = None
        self._last: Pair | None = None

    def add(self, values: Values, from_rgb: Values) -> None:
        """Adds a batch of samples: values of all modalities, and values that are predicted from their rgb."""
        self._scores = added(self._scores, consistency.averages(values, from_rgb, self.facts))
        pair = dict(values), dict(from_rgb)
        self._last = _joined(self._last, pair) if self._last else pair
        distance = len(values)
        if len(next(iter(self._last[0].values()))) <= distance:
            return
        if self._first is None:
            self._first = _part(self._last, slice(0, distance))
        self._shuffled = added(self._shuffled, self._moved(self._last))
        self._last = _part(self._last, slice(-distance, None))

    def scores(self) -> dict[str, Averages]:
        """Scores "" of the samples, and "_shuffled", which there are if there are more samples than modalities."""
        found = {"": self._scores}
        if self._first and self._last:
            found["_shuffled"] = added(self._shuffled, self._moved(_joined(self._last, self._first)))
        return found

    def _moved(self, pair: Pair) -> Averages:
        """Scores of the samples after the first ones, whose modalities all come from samples of this part."""
        values, from_rgb = _part(consistency.shuffled(*pair), slice(len(pair[0]), None))
        return consistency.averages(values, from_rgb, self.facts)


def _joined(a: Pair, b: Pair) -> Pair:
    first, second = ({m: np.concatenate([x[m], y[m]]) for m in x} for x, y in zip(a, b, strict=True))
    return first, second


def _part(pair: tuple[Values, Values | None], rows: slice) -> Pair:
    values, from_rgb = pair
    return {m: x[rows] for m, x in values.items()}, {m: x[rows] for m, x in (from_rgb or {}).items()}
