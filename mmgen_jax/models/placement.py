"""How one device gets the weights it computes with, and how devices that share a block's products join them.

The network computes on local arrays: of a batch that is split over devices, and of weights that a placement turns
from stored parts into what products need. The single device is the placement that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax


def _same(x: Any) -> Any:
    return x


@dataclass(frozen=True)
class Placement:
    """Attributes:
    platform: that computes: "cpu", "gpu" or "tpu".
    weights: stored block -> block to compute with; called inside the loop over blocks, so that one is whole at a time.
    share: tokens that all members of a tensor group have -> input of the products that they split.
    join: partial sums of the members -> their sum, which all have.
    members: devices of a tensor group; each has 1 / members of the heads and of the MLP.
    """

    platform: str
    weights: Callable[[Any], Any] = _same
    share: Callable[[jax.Array], jax.Array] = _same
    join: Callable[[jax.Array], jax.Array] = _same
    members: int = 1


def single() -> Placement:
    """Everything on the default device."""
    return Placement(jax.default_backend())
