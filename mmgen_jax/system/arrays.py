"""Types of arrays. Most functions of arrays work on NumPy's and on JAX's alike, those that are traced included."""

from __future__ import annotations

from typing import TypeVar

import jax
import numpy as np

AnyArray = np.ndarray | jax.Array
A = TypeVar("A", np.ndarray, jax.Array)  # for functions whose result is of the same kind as what they are given
