"""The tests execute the annotations of the package: each call is checked against them, the shapes of arrays included.

`conftest.py` installs `check` for all modules of the package that this process imports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Self

import jaxtyping
import numpy as np
from beartype import BeartypeConf, FrozenDict, beartype

_CHECKER = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is a float too, as for mypy
        hint_overrides=FrozenDict(
            {
                np.ndarray: np.ndarray | np.generic,  # NumPy returns numbers where its annotations say arrays
                Self: Any,  # beartype knows it in decorated classes only, and jaxtyping decorates their methods
            }
        ),
    )
)


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """For tests of what the package itself says of values of the wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def check(function: Callable) -> Callable:
    """The function with its arguments and what it returns checked."""
    # JAX makes pytrees anew with anything for leaves: shapes, whole batches of them, None.
    return function if function.__name__ == "__init__" else _CHECKER(function)
