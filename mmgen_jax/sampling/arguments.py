"""Checks of what is passed to the functions of this package, which are part of the Python interface: one line each.

Under `jax.jit` and the like only shapes and types are known, and only they are checked.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.system.errors import shown

_LARGEST = float(np.finfo(np.float32).max)


def count(name: str, value: object, least: int) -> None:
    """Raises ValueError unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name}={shown(value)}: must be an integer of at least {least}")


def within(name: str, value: Any, low: float, high: float) -> None:
    """Raises ValueError unless `value` is a real number or an array of them, all of them from `low` to `high`."""
    array = _real(name, value, f"must be from {low:g} to {high:g}")
    if array is not None and not ((low <= array) & (array <= high)).all():
        wrong = array[~((low <= array) & (array <= high))].flat[0]
        raise ValueError(f"{name}={wrong:g}: must be from {low:g} to {high:g}")


def finite(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a real number or an array of them, all of them finite as float32."""
    within(name, value, -_LARGEST, _LARGEST)


def positive(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a finite number above 0."""
    array = _real(name, value, "must be a finite number above 0")
    if array is not None and not (array.ndim == 0 and 0 < array <= _LARGEST):
        raise ValueError(f"{name}={shown(value)}: must be a finite number above 0")


def grid(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is a grid of at least two times, in [0, 1], none later than the one before."""
    within(name, value, 0, 1)
    shape = np.shape(value)
    if len(shape) not in (1, 2) or shape[0] < 2:
        raise ValueError(f"{name} has shape {shape}: must be [steps + 1] or [steps + 1, M], of at least two times")
    if not isinstance(value, jax.core.Tracer) and (np.diff(np.asarray(value), axis=0) > 0).any():
        raise ValueError(f"{name} has times that rise: must fall from 1 to 0")


def random_key(value: Any) -> None:
    """Raises ValueError unless `value` is a random key, of either kind, or one for each sample."""
    dtype = getattr(value, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and not (dtype == jnp.uint32 and np.ndim(value) in (1, 2)):
        raise ValueError(f"key={shown(value)}: must be a PRNG key")


def _real(name: str, value: Any, allowed: str) -> np.ndarray | None:
    """The numbers float64, or None while they are not known."""
    if isinstance(value, jax.core.Tracer):
        return None
    try:
        array = np.asarray(value)
        if array.dtype.kind in "iuf":
            return array.astype(np.float64)
        if jnp.issubdtype(array.dtype, jnp.floating):  # bfloat16 and the like
            return array.astype(np.float64)
    except Exception as error:  # an object of the user's may raise anything
        raise ValueError(f"{name} is of type {type(value).__name__}: {allowed}") from error
    raise ValueError(f"{name}={shown(value)}: {allowed}")
