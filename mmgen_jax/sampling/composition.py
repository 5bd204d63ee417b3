"""Composition: follows a product of conditional densities, though no model was trained with its conditions together.

If conditions are independent given the targets, the score of the targets given all of them is a sum of scores under
one condition each (Nair et al. 2022, "Image generation with multi-modal priors", MCDM). Velocities at the same point
and time are affine in scores, so they obey the same rule: v = v_0 + sum_i w_i (v_i - v_0), where v_0 has no condition.
A weight of 1 is MCDM, a weight between 0 and 1 is a strength, and a negative weight leads away from a condition.

A product of noisy densities is not the noisy density of the product. Therefore a solver that only follows the composed
velocity draws from too narrow a density, whatever its number of steps (Du et al. 2023, "Reduce, Reuse, Recycle").
`corrections.py` has what mends that: Langevin steps, and particles with weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.sampling.roles import Time, Times, hold, per_name

Weight = float | jax.Array


@dataclass(frozen=True)
class Composed:
    """The velocity of the targets under several conditions at once; `composed` makes one.

    Attributes:
      velocity_fn: velocity of the targets and of the modalities in `conditions`.
      conditions: clean latents [B, h, w, C] of modalities that `velocity_fn` is given, each in a branch of its own.
      others: velocity functions of the targets, each with a condition of its own, such as a class or another model.
      weights: weight of each condition and then of each of `others`, a number or [B].
      times: time at which each condition is held.
      noise: standard normal noise of the modalities in `conditions`.
    """

    velocity_fn: VelocityFn
    conditions: Latents
    others: tuple[VelocityFn, ...]
    weights: tuple[Weight, ...]
    times: Mapping[str, Time]
    noise: Latents

    def __call__(self, x: Latents, t: jax.Array) -> Latents:
        """Velocity of the targets x, dict of [B, h, w, C], at times t [B, M]."""
        branches, coefficients = self._branches(x, t)
        return _sum(branches, coefficients)

    def with_spread(self, x: Latents, t: jax.Array) -> tuple[Latents, Mapping[str, jax.Array]]:
        """Returns the velocity v, and sum_j c_j |v_j - v|^2 [B] of each target, over branches j of coefficients c_j.

        The coefficients are the weights, and 1 minus their sum for the branch without conditions.
        """
        branches, coefficients = self._branches(x, t)
        velocity = _sum(branches, coefficients)
        spread = {}
        for m, v in velocity.items():
            squares = jnp.square(branches[m] - v[:, None]).sum(range(2, branches[m].ndim))
            spread[m] = (coefficients * squares).sum(1)
        return velocity, spread

    def _branches(self, x: Latents, t: jax.Array) -> tuple[Latents, jax.Array]:
        """Velocities [B, J, h, w, C] of each target in J branches, the one without conditions first, and [B, J]."""
        rows, count = len(t), len(self.conditions) + 1
        for m, value in self.conditions.items():
            if m in x or len(value) != rows:
                raise ValueError(f"condition {m!r} has shape {value.shape}: must have {rows} rows and be no target")
        # The branches of a sample are neighbours in the larger batch, so that a batch that is split over devices grows
        # without samples moving between devices.
        everything = Latents((m, jnp.repeat(value, count, axis=0)) for m, value in x.items())
        columns = [jnp.repeat(t, count, axis=0)]
        for i, (m, clean) in enumerate(self.conditions.items(), start=1):
            held = hold(clean, self.noise[m], self.times[m])
            everything[m] = jnp.stack([held if j == i else self.noise[m] for j in range(count)], 1).reshape(
                -1, *clean.shape[1:]
            )
            own = jnp.broadcast_to(jnp.asarray(self.times[m], t.dtype), (rows,))
            columns.append(jnp.where(jnp.arange(count) == i, own[:, None], 1.0).reshape(-1, 1))
        out = self.velocity_fn(everything, jnp.concatenate(columns, 1))
        branches = Latents((m, out[m].reshape(rows, count, *value.shape[1:])) for m, value in x.items())
        for velocity_fn in self.others:
            extra = velocity_fn(x, t)
            branches = Latents((m, jnp.concatenate([v, extra[m][:, None]], 1)) for m, v in branches.items())
        weights = jnp.stack([jnp.broadcast_to(jnp.asarray(w, jnp.float32), (rows,)) for w in self.weights], 1)
        return branches, jnp.concatenate([1 - weights.sum(1, keepdims=True), weights], 1)


def _sum(branches: Latents, coefficients: jax.Array) -> Latents:
    """The composed velocity [B, h, w, C] of each target."""
    return Latents((m, jnp.einsum("bj...,bj->b...", v, coefficients)) for m, v in branches.items())


def composed(
    velocity_fn: VelocityFn,
    conditions: Mapping[str, jax.Array | VelocityFn],
    weights: Mapping[str, Weight] | Sequence[Weight],
    given_time: Times = 0.005,
    noise: Mapping[str, jax.Array] | None = None,
) -> Composed:
    """Composes conditions that no model needs to have seen together: v = v_0 + sum_i w_i (v_i - v_0).

    In the branch of a condition, that one is given and all other modalities in `conditions` are ignored, which means
    held at pure noise (t = 1). In branch 0 all of them are ignored. `velocity_fn` is evaluated once for all branches,
    with (N + 1) B rows for N conditions: row (N + 1) b + i is branch i of sample b. A velocity function that is bound
    to a prompt therefore needs a prompt of so many rows.

    Args:
      velocity_fn: (x, t) -> velocities, where x has the targets and then the conditions, in their orders.
      conditions: name -> clean latents [B, h, w, C] of the modality of that name; or, for a condition of another kind
        such as a class, or of another model with the same path and the same latents, a velocity function of the targets
        to which that condition is bound.
      weights: weight of each condition, by name or in their order; a number, or [B] for one of each sample.
      given_time: time in [0, 1] at which conditions are held, one for all or by name.
      noise: standard normal noise of the conditions' modalities; drawn from a fixed key by default.

    Returns:
      The velocity function of all modalities that are not conditions. `sample` takes it like any other, and its
      arguments `corrector` and `particles` make samples of it right.

    Raises:
      ValueError: there is no condition, or the weights are not those of the conditions.
    """
    if not conditions:
        raise ValueError("conditions is empty: must have at least one")
    named = dict(weights) if isinstance(weights, Mapping) else dict(zip(conditions, weights, strict=True))
    if set(named) != set(conditions):
        raise ValueError(f"weights has {sorted(named)}: must have {sorted(conditions)}")
    latents = Latents((m, jnp.asarray(v, jnp.float32)) for m, v in conditions.items() if not callable(v))
    functions = {m: v for m, v in conditions.items() if callable(v)}
    key = keys.of_seed(0, "composition")
    drawn = Latents(
        (m, noise[m] if noise is not None else jax.random.normal(keys.stream(key, m), v.shape))
        for m, v in latents.items()
    )
    return Composed(
        velocity_fn,
        latents,
        tuple(functions.values()),
        tuple(named[m] for m in (*latents, *functions)),
        per_name(given_time, tuple(latents)),
        drawn,
    )
