"""The types that solvers, guidance, composition and corrections share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from mmgen_jax.diffusion.latents import Latents

VelocityFn = Callable[[Latents, jax.Array], Mapping[str, jax.Array]]  # of x [B, H, W, C] and times t [B, M]
# (x, t [M']) -> velocity of the M' generated modalities; (x, t, r [M']) -> average velocity from t to r
Field = Callable[..., Latents]
Placed = Callable[[Latents, jax.Array], tuple[Latents, jax.Array]]  # x and [M'] with what is held added: x and [B, M]


class Interval(NamedTuple):
    """The interval of time that one step crosses.

    Attributes:
      number: int, number of the step.
      earlier: times [M'] at which the step before the one before began; `before` if there is none on the same path.
      before: times [M'] at which the step before began; `now` if there is none on the same path.
      now: times [M'] at which the step begins, one for each generated modality.
      then: times [M'] at which the step ends.
      last: bool, whether this is the last step.
      noise: standard normal noise with the shapes of x for stochastic solvers, empty for the others.
    """

    number: jax.Array
    earlier: jax.Array
    before: jax.Array
    now: jax.Array
    then: jax.Array
    last: jax.Array
    noise: Latents
