"""AdamW or Muon, the learning rate schedule and clipping of the gradient's norm."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array
from optax import contrib

from mmgen_jax.models.architectures import Params
from mmgen_jax.parallel.sharding import path_name
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


def adamw(optim: Optim, rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW for all parameters."""
    return optax.adamw(
        rate, b1=optim.b1, b2=optim.b2, eps=optim.eps, weight_decay=optim.weight_decay, mu_dtype=optim.moment_dtype
    )


def matrices_of_blocks(params: Params) -> Params:
    """For the kernel of each layer within blocks, which of its dimensions are inputs and outputs; None elsewhere.

    Kernels are [..., inputs, outputs]. Those of transformer blocks are stacked over depth, and each block has a matrix
    of its own; those of convolutions have a height and a width, which belong to the inputs.
    """

    def dimensions(path: tuple, leaf: jax.Array) -> contrib.MuonDimensionNumbers | None:
        if not re.search(r"(^|/)blocks/.*kernel$", path_name(path)):
            return None
        inputs = (0, 1, 2) if leaf.ndim == 4 else leaf.ndim - 2
        return contrib.MuonDimensionNumbers(inputs, leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(dimensions, params)


def muon(optim: Optim, rate: optax.Schedule) -> optax.GradientTransformation:
    """Muon for the matrices of blocks; for all else AdamW, with the momentum of Nesterov as Muon has it.

    The momentum of a matrix is replaced by the closest matrix with orthogonal rows or columns, by Newton-Schulz
    iterations (Jordan 2024), times .2 sqrt(larger dimension), so that its elements are as large as those of AdamW's
    updates and learning rates of AdamW fit (Liu et al., arXiv 2502.16982).
    """
    return contrib.muon(
        rate,
        beta=optim.momentum,
        weight_decay=optim.weight_decay,
        mu_dtype=optim.moment_dtype,
        adam_b1=optim.b1,
        adam_b2=optim.b2,
        eps=optim.eps,
        adam_weight_decay=optim.weight_decay,
        muon_weight_dimension_numbers=matrices_of_blocks,
        consistent_rms=0.2,
    )


OPTIMIZERS: dict[str, Callable[[Optim, optax.Schedule], optax.GradientTransformation]] = {"adamw": adamw, "muon": muon}


def make_optimizer(optim: Optim, steps: int) -> optax.GradientTransformationExtraArgs:
    """The optimizer after clipping by the norm of all gradients together, which `update` takes as the argument `norm`.

    MMGen was trained with AdamW: learning rate 1e-4, betas 0.9 and 0.999, eps 1e-8, no weight decay, clipping at 1.
    """
    chosen = OPTIMIZERS[optim.name](optim, learning_rate(optim, steps))
    return optax.chain(clip_by_norm(optim.clip_norm), chosen)
