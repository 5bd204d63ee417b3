"""Parameters, optimizer state and EMA as one pytree."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from mmgen_jax.models.architecture import Architecture, Params
from mmgen_jax.system.errors import UsageError


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """`step` counts finished optimizer steps; `ema` has the structure of `params`, all float32."""

    step: Int[Array, ""]
    params: Params
    ema: Params
    opt_state: optax.OptState


def init_state(architecture: Architecture, tx: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """A fresh state; run it under jit with out_shardings so that it is born where it belongs."""
    params = architecture.init(key)
    # A copy, since donated buffers may not be aliased.
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema, tx.init(params))


def learning_rate(optim: ConfigDict, steps: int) -> optax.Schedule:
    """Linear warmup, constant, linear decay to zero over the last `optim.decay_steps` of `steps`."""
    if optim.warmup_steps + optim.decay_steps > steps:
        raise UsageError(
            f"optim.warmup_steps + optim.decay_steps is {optim.warmup_steps + optim.decay_steps}; "
            f"allowed: at most train.steps = {steps}"
        )

    def schedule(step: Array) -> Array:
        # `step` starts at 0 and the first update must not be empty.
        warm = jnp.minimum(1.0, (step + 1) / max(optim.warmup_steps, 1))
        left = jnp.minimum(1.0, (steps - step) / max(optim.decay_steps, 1)) if optim.decay_steps else 1.0
        return optim.learning_rate * warm * left

    return schedule


def clip_by_norm(limit: float) -> optax.GradientTransformationExtraArgs:
    """Scales gradients down to the norm `limit`, as optax.clip_by_global_norm does, but is told their `norm`."""

    def update(grads: Params, state: optax.EmptyState, params: Params | None = None, *, norm: Array, **_):
        return jax.tree.map(lambda g: jnp.where(norm < limit, g, g / norm * limit), grads), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def make_optimizer(optim: ConfigDict, steps: int) -> optax.GradientTransformationExtraArgs:
    """AdamW after clipping by the norm of all gradients, which `update` takes as `norm`.

    MMGen: 1e-4, betas 0.9 and 0.999, eps 1e-8, no decay, clip 1.
    """
    return optax.chain(
        clip_by_norm(optim.clip_norm),
        optax.adamw(
            learning_rate(optim, steps),
            b1=optim.b1,
            b2=optim.b2,
            eps=optim.eps,
            weight_decay=optim.weight_decay,
            mu_dtype=optim.moment_dtype,
        ),
    )


def ema_update(ema: Params, params: Params, step: Array, decay: float, ramp: float) -> Params:
    """ema <- d ema + (1 - d) params with d = min(decay, (1 + step) / (ramp + step)); ramp 1 is a constant decay."""
    d = jnp.minimum(decay, (1.0 + step) / (ramp + step))
    return jax.tree.map(lambda e, p: e + (1.0 - d) * (p - e), ema, params)
