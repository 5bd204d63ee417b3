"""Grids of times from 1 to 0, over which solvers make their steps."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mmgen_jax.sampling import arguments
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.rules import Rule, each, number

EM_LAST_TIME = 0.04
GRID = Rule(
    lambda v: (
        each(number(0, 1)).allows(v)
        and len(v) > 1
        and (v[0], v[-1]) == (1, 0)
        and all(a > b for a, b in zip(v, v[1:], strict=False))
    ),
    "times that fall from 1 to 0",
)


def uniform_times(steps: int) -> jax.Array:
    """Times [steps + 1] from 1 to 0 in equal steps, the grid of the ODE solvers."""
    return jnp.linspace(1.0, 0.0, steps + 1)


def shifted(times: jax.Array, shift: float) -> jax.Array:
    """A grid with each time t moved to s t / (1 + (s - 1) t), for a shift s (Esser et al. 2024, equation 23)."""
    return shift * times / (shift * times + (1 - times))  # exactly 1 at t = 1, whatever the rounding


def shifted_times(steps: int, shift: float) -> jax.Array:
    """Times [steps + 1] from 1 to 0, those of equal steps `shifted`.

    A shift above 1 spends more of the steps on noise, as large images want; 1 gives `uniform_times`. Raises ValueError
    if it is not above 0 or not finite, and for less than one step.
    """
    arguments.count("steps", steps, 1)
    arguments.positive("shift", shift)
    return shifted(uniform_times(steps), shift)


def last_step_times(steps: int) -> jax.Array:
    """Times [steps + 1] in equal steps from 1 to 0.04, then 0, as the score is unbounded at t = 0 (SiT, REPA)."""
    return jnp.append(jnp.linspace(1.0, EM_LAST_TIME, steps), 0.0)


def in_order(grid: AnyArray, ahead: Sequence[float]) -> jax.Array:
    """Times [steps + 1, M] of modalities that run ahead by `ahead`, on one clock that follows a grid [steps + 1].

    The clock is u = (1 + D) times the grid, where D is the largest d of all; a modality that runs ahead by d has
    t = u - d, clipped to [0, 1].
    """
    clock = jnp.asarray(grid)[:, None] * (1 + max(ahead))
    # Both ends are exact, as some solvers divide by what is left there.
    return jnp.clip(clock - jnp.asarray(ahead), 0, 1).at[0].set(1).at[-1].set(0)
