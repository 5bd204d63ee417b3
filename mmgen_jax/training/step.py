"""batch -> loss -> gradients -> state: one jitted function with donated state."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mmgen_jax.diffusion import conditioning, flow, keys, losses
from mmgen_jax.models.architecture import Architecture, Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import compiler_options
from mmgen_jax.parallel import mesh as sharding
from mmgen_jax.training.inputs import Inputs
from mmgen_jax.training.state import TrainState, ema_update, init_state

Metrics = dict[str, Array]


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
      path: the flow path.
      mix: rows of the training mix.
      time_sampler: (key, shape) -> t.
      loss_weights: float [M], weight of each modality's velocity loss.
      alignment_weight: weight of the REPA loss; only where there are features.
      label_dropout: probability of the null class.
    """

    path: flow.Path
    mix: Sequence[conditioning.Row]
    time_sampler: conditioning.TimeSampler
    loss_weights: tuple[float, ...]
    alignment_weight: float
    label_dropout: float


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Example:
    """Network inputs and targets of a batch; every leaf has the batch as its leading axis."""

    x: dict[str, Array]
    target: dict[str, Array]
    t: Float[Array, "B M"]
    class_id: Array
    task: Array
    weights: Float[Array, "B M"]  # of each sample and modality in the velocity loss
    features: Array | None
    feature_weight: Float[Array, "B"]


def make_example(
    architecture: Architecture, objective: Objective, inputs: Inputs, batch: Mapping[str, Array], key: jax.Array
) -> Example:
    """Noises and masks a GLOBAL batch; all randomness of the step is here."""
    names = architecture.modalities
    x0 = inputs.latents(batch, keys.stream(key, "posterior"))
    x0, features = jax.lax.stop_gradient((x0, inputs.features(batch)))
    chosen = keys.stream(key, "conditions")
    conditions = conditioning.draw(chosen, objective.mix, batch["present"], objective.time_sampler)

    x, target, noises = {}, {}, keys.stream(key, "noise")
    for i, m in enumerate(names):
        noise = jax.random.normal(keys.stream(noises, m), x0[m].shape)
        x[m], target[m] = flow.interpolate(objective.path, x0[m], noise, conditions.t[:, i])

    rows = len(batch["class_id"])
    dropped = jax.random.bernoulli(keys.stream(key, "labels"), objective.label_dropout, (rows,))
    return Example(
        x=x,
        target=target,
        t=conditions.t,
        class_id=jnp.where(dropped | (batch["class_id"] < 0), architecture.null_class, batch["class_id"]),
        task=conditions.task,
        weights=losses.mean_weights(conditions.supervised),
        features=features,
        feature_weight=losses.mean_weights(batch["present"])[:, names.index("rgb") if "rgb" in names else 0],
    )


def example_loss(
    apply: Callable, modalities: Sequence[str], objective: Objective, params: Params, example: Example
) -> tuple[Float[Array, ""], Metrics]:
    """Loss of (a part of) a global batch; parts add up because the weights are those of the whole.

    `apply` is the network, as `Architecture.apply`.
    """
    velocity, features = apply(params, example.x, example.t, example.class_id, example.task)
    error = losses.squared_error(velocity, example.target, modalities)
    per_modality = (example.weights * error).sum(0)
    loss = per_modality @ jnp.asarray(objective.loss_weights)
    metrics = {f"loss/{m}": per_modality[i] for i, m in enumerate(modalities)}
    metrics |= losses.by_time(error, example.weights > 0, example.t)
    if features is not None and example.features is not None:
        alignment = (example.feature_weight * losses.negative_cosine(features, example.features)).sum()
        loss += objective.alignment_weight * alignment
        metrics["loss/alignment"] = alignment
    return loss, metrics | {"loss": loss}


def accumulated_gradients(
    loss_fn: Callable[[Params, Example], tuple[Array, Metrics]], params: Params, example: Example, parts: int
) -> tuple[Params, Metrics]:
    """Gradients of the sum of `loss_fn` over `parts` slices of the batch, one slice in memory at a time."""
    grad_fn = jax.grad(loss_fn, has_aux=True)
    if parts == 1:
        return grad_fn(params, example)
    sliced = jax.tree.map(lambda a: a.reshape(parts, a.shape[0] // parts, *a.shape[1:]), example)

    def body(total, part):
        return jax.tree.map(jnp.add, total, grad_fn(params, part)), None

    first = jax.tree.map(lambda a: a[0], sliced)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(grad_fn, params, first))
    return jax.lax.scan(body, zeros, sliced)[0]


def make_train_step(
    architecture: Architecture,
    objective: Objective,
    tx: optax.GradientTransformationExtraArgs,
    mesh: Mesh,
    *,
    seed: int,
    accumulate: int,
    ema_decay: float,
    ema_ramp: float,
) -> Callable[[TrainState, Inputs, Mapping[str, Array]], tuple[TrainState, Metrics]]:
    """Jitted (state, inputs, global batch) -> (state, metrics); the state's buffers are donated.

    A step whose loss or gradient is not finite leaves parameters, optimizer and EMA as they were and
    reports `finite` = 0. Metrics are scalars, but for those of `losses.by_time`.
    """

    layout = Layout(architecture, mesh)

    def local(apply: Callable, params: Params, example: Example) -> tuple[Params, Metrics]:
        """Gradients and metrics of one device's samples."""
        loss = functools.partial(example_loss, apply, architecture.modalities, objective)
        return accumulated_gradients(loss, params, example, accumulate)

    def step(state: TrainState, inputs: Inputs, batch: Mapping[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(keys.of_seed(seed, "train"), state.step)
        example = make_example(architecture, objective, inputs, batch, key)
        grads, metrics = layout.gradients(local, state.params, example)
        (norm,) = layout.norms(grads)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
        updates, opt_state = tx.update(grads, state.opt_state, state.params, norm=norm)
        params = optax.apply_updates(state.params, updates)
        ema = ema_update(state.ema, params, state.step, ema_decay, ema_ramp)
        new = (params, ema, opt_state)
        old = (state.params, state.ema, state.opt_state)
        kept = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
        update_norm, param_norm = layout.norms(updates, kept[0])
        metrics |= {"grad_norm": norm, "update_norm": update_norm, "param_norm": param_norm}
        return TrainState(state.step + 1, *kept), metrics | {"finite": finite.astype(np.float32)}

    whole, split = sharding.replicated(mesh), sharding.batched(mesh)
    abstract = jax.eval_shape(functools.partial(init_state, architecture, tx), jax.random.key(0))
    placed = sharding.state_shardings(mesh, abstract)
    return jax.jit(
        step,
        in_shardings=(placed, whole, split),
        out_shardings=(placed, whole),
        donate_argnums=0,
        compiler_options=compiler_options.TRAINING.on(mesh),
    )
