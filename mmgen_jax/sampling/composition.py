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

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import arguments
from mmgen_jax.sampling.branches import Branches, Member, Several, Term, Weight
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.sampling.roles import Times, hold, per_name


def alone(names: Sequence[str], members: Mapping[str, Member]) -> tuple[dict[str, np.ndarray], tuple[Term, ...]]:
    """Branches of a composition: none of the conditions `names`, and each of the members alone.

    Returns condition -> bool [J], in which branches it is present, and the terms; see `Branches`.
    """
    with_it = [None, *members]
    present = {name: np.array([name == member for member in with_it]) for name in names}
    return present, tuple(Term(m.weight, m.interval, outside=1.0) for m in members.values())


def composed(
    velocity_fn: VelocityFn,
    conditions: Mapping[str, jax.Array | VelocityFn],
    weights: Mapping[str, Weight] | Sequence[Weight],
    given_time: Times = 0.005,
    noise: Mapping[str, jax.Array] | None = None,
) -> Branches:
    """Composes conditions that no model needs to have seen together: v = v_0 + sum_i w_i (v_i - v_0).

    In the branch of a condition, that one is given and all other modalities in `conditions` are ignored, which means
    held at pure noise (t = 1). In branch 0 all of them are ignored. `velocity_fn` is evaluated once for all branches,
    with (N + 1) B rows for N conditions: row (N + 1) b + i is branch i of sample b. A velocity function that is bound
    to a prompt therefore needs a prompt of so many rows.

    Args:
      velocity_fn: (x, t) -> velocities, where x has the targets and then the conditions, in their orders.
      conditions: name -> clean latents [B, h, w, C] of the modality of that name; or, for a condition of another kind
        such as a class, a velocity function of the targets to which that condition is bound. A condition of another
        model, with the same path and the same latents, is two of them, with and without it, of weights w and -w.
      weights: weight of each condition, by name or in their order; a number, or [B] for one of each sample.
      given_time: time in [0, 1] at which conditions are held, one for all or by name.
      noise: standard normal noise of the conditions' modalities; drawn from a fixed key by default.

    Returns:
      The velocity function of all modalities that are not conditions. `sample` takes it like any other, and its
      arguments `corrector` and `particles` make samples of it right.

    Raises:
      ValueError: there is no condition, the weights are not those of the conditions, or a number is out of its range.
    """
    if not conditions:
        raise ValueError("conditions is empty: must have at least one")
    if not isinstance(weights, Mapping) and len(weights) != len(conditions):
        raise ValueError(f"weights has {len(weights)} entries: must have one for each of {sorted(conditions)}")
    named = dict(weights) if isinstance(weights, Mapping) else dict(zip(conditions, weights, strict=True))
    if set(named) != set(conditions):
        raise ValueError(f"weights has {sorted(named)}: must have {sorted(conditions)}")
    for m, weight in named.items():
        arguments.finite(f"the weight of {m!r}", weight)
    latents = Latents((m, jnp.asarray(v, jnp.float32)) for m, v in conditions.items() if not callable(v))
    functions = {m: v for m, v in conditions.items() if callable(v)}
    key = keys.of_seed(0, "composition")
    drawn = Latents(
        (m, noise[m] if noise is not None else jax.random.normal(keys.stream(key, m), v.shape))
        for m, v in latents.items()
    )
    present, terms = alone(tuple(latents), {m: Member(named[m]) for m in latents})
    times = per_name(given_time, tuple(latents))
    for m, time in times.items():
        arguments.within(f"given_time of {m!r}", time, 0, 1)
    return Branches(
        lambda x, t, _: velocity_fn(x, t),
        present,
        terms + tuple(Term(named[m]) for m in functions),
        drawn,
        Latents((m, hold(z, drawn[m], times[m])) for m, z in latents.items()),
        times,
        tuple(_alone(function) for function in functions.values()),
    )


def _alone(velocity_fn: VelocityFn) -> Several:
    return lambda x, t: [velocity_fn(x, t)]
