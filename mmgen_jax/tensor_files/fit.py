"""Whether named arrays are those of a network: none missing, none left over, each of the right shape, and numbers."""

from __future__ import annotations

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.errors import UsageError

_SHOWN = 3  # names of each kind


def check(found: Mapping[str, AnyArray], wanted: Mapping[str, tuple[int, ...]], source: object) -> None:
    """Raises UsageError that names the first weights that are missing, left over, misshapen or of another type.

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
    refuse(problems, source, "the model")
    for name in wanted:
        if not jnp.issubdtype(found[name].dtype, jnp.floating):
            raise UsageError(f"{source}: {name} has type {found[name].dtype}; it must be a floating point type")


def refuse(problems: Mapping[str, list[str]], source: object, network: str) -> None:
    """Raises UsageError if there are problems, which are names of weights by what is wrong with them."""
    told = [f"{kind} {_first(names)}" for kind, names in problems.items() if names]
    if told:
        raise UsageError(f"{source} does not fit {network}: {'; '.join(told)}")


def finite(array: np.ndarray, name: str, source: object) -> np.ndarray:
    """Returns an array of floating point numbers, whose name is `name`, if all are finite; else raises UsageError."""
    good = np.isfinite(array)
    if not good.all():
        count, place = int((~good).sum()), np.unravel_index(int(np.argmin(good)), array.shape)
        raise UsageError(
            f"{source}: {name} has values that are not finite: {count} of {array.size}, "
            f"the first at {[int(i) for i in place]}: {array[place]}"
        )
    return array


def shape_of(state: Mapping[str, AnyArray], name: str, ndim: int, source: object) -> tuple[int, ...]:
    """Shape of a weight. Raises UsageError if it is missing or does not have `ndim` dimensions above 0."""
    if name not in state:
        raise UsageError(f"{source} is not that of the network: {name}: missing")
    shape = state[name].shape
    if len(shape) != ndim or 0 in shape:
        raise UsageError(f"{source}: {name} has shape {shape}: must have {ndim} dimensions, none of them 0")
    return shape


def check_finite(found: Mapping[str, AnyArray], source: object) -> None:
    """Raises UsageError that names the first weights with a value that is NaN or infinite."""
    for name, value in found.items():
        finite(np.asarray(value), name, source)


def _first(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
