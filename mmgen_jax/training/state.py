"""Parameters, their moving average (EMA) and the optimizer's state as one pytree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Int

from mmgen_jax.models.architectures import Params
from mmgen_jax.system.arrays import AnyArray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """The state of training: `step` counts finished steps and `ema` is the float32 average of `params`."""

    step: Int[AnyArray, ""]
    params: Params
    ema: Params
    opt_state: optax.OptState


def init_state(init: Callable[[jax.Array], Params], tx: optax.GradientTransformation, key: jax.Array) -> TrainState:
    """Makes a fresh state. Run it under jit with `out_shardings`, so that no device ever holds the whole state."""
    params = init(key)
    # The average is a copy, since the step donates both buffers.
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(jnp.zeros((), jnp.int32), params, ema, tx.init(params))


def ema_update(ema: Params, params: Params, step: AnyArray, decay: float, ramp: float) -> Params:
    """ema <- d ema + (1 - d) params with d = min(decay, (1 + step) / (ramp + step)); ramp 1 is a constant decay."""
    d = jnp.minimum(decay, (1.0 + step) / (ramp + step))
    return jax.tree.map(lambda e, p: e + (1.0 - d) * (p - e), ema, params)
