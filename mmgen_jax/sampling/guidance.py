"""Guidance: functions that turn a network into the velocity function that a solver follows.

A network is any `apply(x, t, class_id, task)`. `bind` fixes its class and task; `bind_task` fixes only the task and
gives a conditional velocity function `conditional(x, t, class_id)`, which `classifier_free` guides by class. All
three keep the solvers' convention: column m of t belongs to the m-th key of x.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.sampling.solvers import VelocityFn

ConditionalFn = Callable[[Latents, jax.Array, jax.Array], Latents]


def bind_task(model_apply: Callable, task: jax.Array, names: Sequence[str] | None = None) -> ConditionalFn:
    """Network with its task -> `conditional(x, t, class_id)`.

    Args:
      model_apply: (x, t, class_id, task) -> velocities, or (velocities, features) as `MMDiT` returns them.
      task: int [B].
      names: the network's order of modalities; by default the order of the table of modalities. The solver's order
        can be another (JAX sorts the keys of dicts), so the columns of t are put into the network's order here.

    The batch of x may be a multiple of B whose neighbours belong to one sample, as in a guided batch.
    """

    def conditional(x: Latents, t: jax.Array, class_id: jax.Array) -> Latents:
        order = [name for name in NAMES if name in x] if names is None else list(names)
        if set(order) != set(x):
            raise ValueError(f"modalities {tuple(x)}: must be {tuple(order)}, the network's")
        columns = jnp.array([list(x).index(name) for name in order])
        branches = t.shape[0] // task.shape[0]
        out = model_apply({name: x[name] for name in order}, t[:, columns], class_id, jnp.repeat(task, branches))
        return out[0] if isinstance(out, tuple) else out

    return conditional


def bind(model_apply: Callable, class_id: jax.Array, task: jax.Array, names: Sequence[str] | None = None) -> VelocityFn:
    """Network with class [B] and task [B] -> `velocity_fn(x, t)` without guidance; see `bind_task`."""
    conditional = bind_task(model_apply, task, names)
    return lambda x, t: conditional(x, t, class_id)


def classifier_free(
    conditional: ConditionalFn,
    class_id: jax.Array,
    null_class: int,
    scale: float | jax.Array,
    interval: tuple[float, float] = (0.0, 1.0),
    given: Sequence[str] = (),
) -> VelocityFn:
    """Classifier-free guidance on the class (Ho & Salimans 2022): v = v_null + scale (v_class - v_null).

    Args:
      conditional: (x, t, class_id) -> velocities, for instance from `bind_task`.
      class_id: int [B].
      null_class: the class of the unconditional branch. Given modalities and the task stay the same in both branches.
      scale: strength of guidance; 1 means none.
      interval: (low, high); a modality is guided while low <= its t <= high (Kynkaanniemi et al. 2024) and follows
        the conditional velocity elsewhere. Where no free modality is inside, the second branch is not computed.
      given: modalities that are held: their times say nothing about where the sampler is.
    """
    low, high = interval
    nulls = jnp.full_like(class_id, null_class)

    def guided(x: Latents, t: jax.Array) -> Latents:
        # Neighbours, not halves: a batch sharded over devices then doubles without moving between them.
        both = {name: jnp.repeat(value, 2, axis=0) for name, value in x.items()}
        out = conditional(both, jnp.repeat(t, 2, axis=0), jnp.stack([class_id, nulls], 1).reshape(-1))
        mixed = {}
        for m, name in enumerate(x):
            with_class, without = out[name][0::2], out[name][1::2]
            inside = ((low <= t[:, m]) & (t[:, m] <= high))[:, None, None, None]
            mixed[name] = jnp.where(inside, without + scale * (with_class - without), with_class)
        return mixed

    def velocity_fn(x: Latents, t: jax.Array) -> Latents:
        if low <= 0 and high >= 1:
            return guided(x, t)
        free = jnp.array([m for m, name in enumerate(x) if name not in given])
        inside = (low <= t[:, free]) & (t[:, free] <= high)
        # The closures keep the order of x's keys; as operands of the conditional they would come back sorted.
        return jax.lax.cond(inside.any(), lambda: dict(guided(x, t)), lambda: dict(conditional(x, t, class_id)))

    return velocity_fn
