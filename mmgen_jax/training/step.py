"""The training step: one jitted function from state and batch to the next state, which reuses the state's memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from mmgen_jax.diffusion import keys
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import compiler_options, sharding
from mmgen_jax.settings import Optim, Settings
from mmgen_jax.training import decoded
from mmgen_jax.training.inputs import Inputs
from mmgen_jax.training.objective import Example, Metrics, Objective, example_loss, make_example
from mmgen_jax.training.optimizer import make_optimizer
from mmgen_jax.training.state import TrainState, ema_update, init_state


def accumulated_gradients(
    loss_fn: Callable[[Params, Any], tuple[Array, Metrics]], params: Params, example: Any, parts: int
) -> tuple[Params, Metrics]:
    """Gradients and metrics of `loss_fn`, summed over `parts` slices of the batch that are computed one after another.

    Only the activations of one slice are in memory at a time.
    """
    grad_fn = jax.grad(loss_fn, has_aux=True)
    if parts == 1:
        return grad_fn(params, example)
    sliced = jax.tree.map(lambda a: a.reshape(parts, a.shape[0] // parts, *a.shape[1:]), example)

    def body(total, part):
        return jax.tree.map(jnp.add, total, grad_fn(params, part)), None

    first = jax.tree.map(lambda a: a[0], sliced)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(grad_fn, params, first))
    return jax.lax.scan(body, zeros, sliced)[0]


@dataclass(frozen=True)
class Training:
    """The compiled programs that train one model on one mesh.

    Attributes:
      step: (state, what is not trained, global batch) -> (state, metrics); the state's buffers are donated.
      init: key -> a fresh state, with every part on the devices that store it.
      state: shapes, types and shardings of the `TrainState` that `step` takes.
    """

    step: jax.stages.Wrapped
    init: Callable[[jax.Array], TrainState]
    state: TrainState


def advanced(
    state: TrainState,
    grads: Params,
    metrics: Metrics,
    tx: optax.GradientTransformationExtraArgs,
    optim: Optim,
    norms: Callable[..., Array],
) -> tuple[TrainState, Metrics]:
    """The state after a step with these gradients, and the metrics with those of the step itself.

    `norms` computes the Euclidean norms of trees. A step whose loss or gradient is not finite leaves parameters,
    optimizer and averages as they were and reports `finite` = 0.
    """
    (norm,) = norms(grads)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
    updates, opt_state = tx.update(grads, state.opt_state, state.params, norm=norm)
    params = optax.apply_updates(state.params, updates)
    ema = ema_update(state.ema, params, state.step, optim.ema_decay, optim.ema_ramp)
    new = (params, ema, opt_state)
    old = (state.params, state.ema, state.opt_state)
    kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    update_norm, param_norm = norms(updates, kept[0])
    metrics |= {"grad_norm": norm, "update_norm": update_norm, "param_norm": param_norm}
    return TrainState(state.step + 1, *kept), metrics | {"finite": finite.astype(np.float32)}


def programs(
    step: Callable[[TrainState, Any, Mapping[str, Array]], tuple[TrainState, Metrics]],
    init: Callable[[jax.Array], TrainState],
    mesh: Mesh,
    place: Callable[[Mesh, TrainState], TrainState] = sharding.state_shardings,
) -> Training:
    """The compiled step and first state of a run on a mesh; `place` tells where each array of a state is stored."""
    whole, split, shapes = sharding.replicated(mesh), sharding.batched(mesh), jax.eval_shape(init, jax.random.key(0))
    placed = place(mesh, shapes)
    compiled = jax.jit(
        step,
        in_shardings=(placed, whole, split),
        out_shardings=(placed, whole),
        donate_argnums=0,
        compiler_options=compiler_options.TRAINING.on(mesh),
    )
    state = jax.tree.map(lambda s, w: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=w), shapes, placed)
    return Training(compiled, jax.jit(init, out_shardings=placed), state)


def make_training(chosen: Settings, architecture: Architecture, objective: Objective, mesh: Mesh) -> Training:
    """Makes the training step of a model for an objective, on the devices of a mesh, and the shapes of its state.

    The settings say how it is optimized and averaged, `train.accumulate` in how many parts one after another, and
    `seed` all random numbers, which are functions of it and the number of the step. See `advanced` for a step that is
    not finite. Metrics are scalars, except those of `losses.by_time`.
    """
    layout, optim = Layout(architecture, mesh), chosen.optim
    tx = make_optimizer(optim, chosen.train.steps)

    def local(
        apply: Callable, params: Params, example: Example, autoencoder: Autoencoder | None
    ) -> tuple[Params, Metrics]:
        """Gradients and metrics of one device's samples."""
        loss = functools.partial(example_loss, apply, objective)
        if autoencoder is not None:
            told = functools.partial(decoded.errors, autoencoder, architecture.facts, objective.path)
            loss = functools.partial(loss, decoded=told)
        return accumulated_gradients(loss, params, example, chosen.train.accumulate)

    def step(state: TrainState, inputs: Inputs, batch: Mapping[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(keys.of_seed(chosen.seed, "train"), state.step)
        example = make_example(architecture, objective, inputs, batch, key)
        autoencoder = inputs.autoencoder if objective.decoded_weight else None
        grads, metrics = layout.gradients(local, state.params, example, autoencoder)
        return advanced(state, grads, metrics, tx, optim, layout.norms)

    return programs(step, functools.partial(init_state, architecture.init, tx), mesh)
