"""Several draws of each sample, and what they say together: one value, and how uncertain it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Draws:
    """Predictions of some modalities.

    Attributes:
      values: values of each modality [n, H, W(, 3)].
      uncertainty: float32 [n, H, W] of each, see `Modality.combine`; empty if there is one draw, which tells nothing.
      draws: values of all draws [n, K, H, W(, 3)]; empty if there is one.
    """

    values: Values
    uncertainty: Values = field(default_factory=dict)
    draws: Values = field(default_factory=dict)


def combined(values: Mapping[str, np.ndarray], count: int, facts: Facts) -> Draws:
    """What `count` draws of each sample say together; row `count` i + k of `values` is draw k of sample i."""
    if count == 1:
        return Draws(dict(values))
    draws = {m: x.reshape(-1, count, *x.shape[1:]) for m, x in values.items()}
    found = {m: MODALITIES[m].combine(x, facts) for m, x in draws.items()}
    return Draws({m: c.value for m, c in found.items()}, {m: c.uncertainty for m, c in found.items()}, draws)
