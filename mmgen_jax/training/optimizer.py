"""AdamW with its learning rate schedule and clipping of the gradient's norm."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from mmgen_jax.models.architectures import Params
from mmgen_jax.settings import Optim
from mmgen_jax.system.errors import UsageError


def learning_rate(optim: Optim, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warmup, constant, linear decay to zero over the last `optim.decay_steps` steps.

    Raises UsageError if warmup and decay together are longer than `steps`.
    """
    if optim.warmup_steps + optim.decay_steps > steps:
        raise UsageError(
            f"optim.warmup_steps + optim.decay_steps is {optim.warmup_steps + optim.decay_steps}; "
            f"allowed: at most train.steps = {steps}"
        )

    def schedule(step: Array) -> Array:
        # `step` starts at 0, and the first update must not have a learning rate of 0.
        warm = jnp.minimum(1.0, (step + 1) / max(optim.warmup_steps, 1))
        left = jnp.minimum(1.0, (steps - step) / max(optim.decay_steps, 1)) if optim.decay_steps else 1.0
        return optim.learning_rate * warm * left

    return schedule


def clip_by_norm(limit: float) -> optax.GradientTransformationExtraArgs:
    """Scales gradients down to the norm `limit`, as optax.clip_by_global_norm does.

    The norm is passed to `update` as `norm` instead of being computed, since only the layout can sum over devices.
    """

    def update(grads: Params, state: optax.EmptyState, params: Params | None = None, *, norm: Array | float, **_):
        del params
        return jax.tree.map(lambda g: jnp.where(norm < limit, g, g / norm * limit), grads), state

    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def make_optimizer(optim: Optim, steps: int) -> optax.GradientTransformationExtraArgs:
    """AdamW after clipping by the norm of all gradients together, which `update` takes as the argument `norm`.

    MMGen was trained with: learning rate 1e-4, betas 0.9 and 0.999, eps 1e-8, no weight decay, clipping at 1.
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
