"""Checks of the arrays that a user passes to the raw network and to the autoencoder, each refused in one line.

Under `jax.jit` and the like only shapes and types are known, and only they are checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.modalities.files import Source, given_array
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.system.errors import UsageError, choice, shown
from mmgen_jax.system.rules import Rule, each, integer, require

_LISTED = Rule(lambda v: v != () and each(integer(0)).allows(v), "a number of samples, or a list of their numbers")


def mapping(name: str, given: object, modalities: Sequence[str]) -> Mapping[str, Any]:
    """A mapping of some of the modalities. Raises UsageError for anything else."""
    if not isinstance(given, Mapping) or not given:
        raise UsageError(f"{name} is {shown(given)}; allowed: a dict of modality -> array")
    for m in given:
        choice(f"modality of {name}", m, modalities)
    return given


def latents(name: str, given: object, architecture: Architecture) -> dict[str, Any]:
    """Latents [B, h, w, C] of some modalities. Raises UsageError for other names, types or shapes."""
    shapes = architecture.latent_shapes(0)
    arrays = {m: _array(f"{name} of {m}", x) for m, x in mapping(name, given, architecture.modalities).items()}
    for m, array in arrays.items():
        if array.ndim != 4 or array.shape[1:] != shapes[m][1:] or not len(array):
            wanted = ", ".join(map(str, shapes[m][1:]))
            raise UsageError(f"{name} of {m} has shape {list(array.shape)}; allowed: [B, {wanted}]")
    if len({len(array) for array in arrays.values()}) > 1:
        raise UsageError(
            f"{name} has {', '.join(f'{len(a)} of {m}' for m, a in arrays.items())}; allowed: equally many"
        )
    return arrays


def times(name: str, given: object, shape: tuple[int, int]) -> Any:
    """Times [B, M] in [0, 1]. Raises UsageError."""
    array = _array(name, given)
    if array.shape != shape:
        raise UsageError(f"{name} has shape {list(array.shape)}; allowed: {list(shape)}, a time for each key of x")
    if (found := _outside(array, 1)) is not None:
        raise UsageError(f"{name} has {found}; allowed: 0 to 1")
    return array


def plain(value: object) -> object:
    """A number of NumPy or JAX as one of Python, an array or list as a tuple; other values as they are."""
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        value = np.asarray(value).tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value


def classes(class_id: Any, n: int, architecture: Architecture) -> np.ndarray:
    """Indices int32 [n] of classes, from one class for all samples or one for each."""
    several = isinstance(class_id, Sequence | np.ndarray | jax.Array) and not isinstance(class_id, str)
    several = several and np.ndim(np.asarray(class_id, object)) > 0
    if several and len(class_id) != n:
        raise UsageError(f"class_id has {len(class_id)} entries; allowed: one, or n = {n}")
    classes = class_id if several else [class_id] * n
    return np.array([architecture.class_index(c) for c in classes], np.int32)


def sample_numbers(n: Any) -> np.ndarray:
    """Numbers int [n] of samples: 0, 1, ... of a count, or those that are listed. Raises UsageError."""
    listed = tuple(n) if isinstance(n, range) else plain(n)
    if not isinstance(listed, tuple):
        require("n", listed, integer(1))
        return np.arange(int(cast(int, listed)))
    require("n", listed, _LISTED)
    return np.array(listed)


def numbers(name: str, given: object, count: int, highest: int) -> Any:
    """Integers [count] from 0 to `highest`. Raises UsageError."""
    array = _array(name, given)
    if array.shape != (count,) or not jnp.issubdtype(array.dtype, jnp.integer):
        raise UsageError(f"{name} is {array.dtype} of shape {list(array.shape)}; allowed: integers [{count}]")
    if (found := _outside(array, highest)) is not None:
        raise UsageError(f"{name} has {found}; allowed: 0 to {highest}")
    return array


def _array(name: str, given: Any) -> Any:
    """An array of real numbers, as it is if it is one of JAX's."""
    array = given if isinstance(given, jax.Array) else given_array(given, Source(name))
    real = jnp.issubdtype(array.dtype, jnp.integer) or jnp.issubdtype(array.dtype, jnp.floating)
    if not real:
        raise UsageError(f"{name} is {shown(given)}; allowed: an array of real numbers")
    return array


def _outside(array: Any, highest: float) -> float | None:
    """A number of the array that is not in [0, highest], or None; also None while the numbers are not known."""
    if isinstance(array, jax.core.Tracer):
        return None
    values = np.asarray(array, np.float64)
    wrong = values[~((0 <= values) & (values <= highest))]
    return wrong.flat[0].item() if wrong.size else None
