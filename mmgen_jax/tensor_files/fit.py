"""Whether named arrays are those of a network: none missing, none left over, each of the right shape."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError

_SHOWN = 3  # names of each kind


def check(found: Mapping[str, AnyArray], wanted: Mapping[str, tuple[int, ...]], source: object) -> None:
    """Raises UsageError that names the first weights that are missing, left over or misshapen.

    Args:
      found: name -> array, of `source`.
      wanted: name -> shape, of the network.
      source: where the arrays come from, for the message.
    """
    shapes = {name: found[name].shape for name in wanted if name in found}
    problems = {
        "missing": [name for name in wanted if name not in shapes],
        "left over": [name for name in found if name not in wanted],
        "misshapen": [f"{n} {shape} instead of {wanted[n]}" for n, shape in shapes.items() if shape != wanted[n]],
    }
    told = [f"{kind} {_first(names)}" for kind, names in problems.items() if names]
    if told:
        raise UsageError(f"{source} does not fit the model: {'; '.join(told)}")


def check_finite(found: Mapping[str, AnyArray], source: object) -> None:
    """Raises UsageError that names the first weights with a value that is NaN or infinite."""
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise UsageError(f"{source}: {name} has values that are not finite")


def _first(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
