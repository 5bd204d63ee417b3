"""A batch becomes a noisy example, and the example a loss."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmgen_jax.diffusion import conditioning, flow, keys, losses
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.training.inputs import Inputs

Metrics = OrderedDict[str, Array]  # losses first; the order survives jit, which sorts plain dicts


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

    x: Latents
    target: Latents
    t: Float[Array, "B M"]
    prompt: Prompt
    weights: Float[Array, "B M"]  # weight of each sample and modality in the velocity loss
    features: Array | None
    feature_weight: Float[Array, " B"]


def make_example(
    architecture: Architecture, objective: Objective, inputs: Inputs, batch: Mapping[str, Array], key: jax.Array
) -> Example:
    """Noises and masks a GLOBAL batch; all randomness of the step is here."""
    names = architecture.modalities
    x0 = inputs.latents(batch, keys.stream(key, "posterior"))
    x0, features = jax.lax.stop_gradient((x0, inputs.features(batch)))
    chosen = keys.stream(key, "conditions")
    conditions = conditioning.draw(chosen, objective.mix, batch["present"], objective.time_sampler)

    x, target, noises = Latents(), Latents(), keys.stream(key, "noise")
    for i, m in enumerate(names):
        noise = jax.random.normal(keys.stream(noises, m), x0[m].shape)
        x[m], target[m] = flow.interpolate(objective.path, x0[m], noise, conditions.t[:, i])

    rows = len(batch["class_id"])
    dropped = jax.random.bernoulli(keys.stream(key, "labels"), objective.label_dropout, (rows,))
    return Example(
        x=x,
        target=target,
        t=conditions.t,
        prompt=Prompt(
            class_id=jnp.where(dropped | (batch["class_id"] < 0), architecture.null_class, batch["class_id"]),
            task=conditions.task,
        ),
        weights=losses.mean_weights(conditions.supervised),
        features=features,
        feature_weight=losses.mean_weights(batch["present"])[:, names.index("rgb") if "rgb" in names else 0],
    )


def example_loss(
    apply: Callable, objective: Objective, params: Params, example: Example
) -> tuple[Float[Array, ""], Metrics]:
    """Loss of (a part of) a global batch; parts add up because the weights are those of the whole.

    `apply` is the network, as `Architecture.apply`.
    """
    velocity, features = apply(params, example.x, example.t, example.prompt)
    error = losses.squared_error(velocity, example.target)
    per_modality = (example.weights * error).sum(0)
    loss = per_modality @ jnp.asarray(objective.loss_weights)
    metrics = OrderedDict(loss=loss) | {f"loss/{m}": per_modality[i] for i, m in enumerate(example.target)}
    metrics |= losses.by_time(error, example.weights > 0, example.t)
    if features is not None and example.features is not None:
        alignment = (example.feature_weight * losses.negative_cosine(features, example.features)).sum()
        loss += objective.alignment_weight * alignment
        metrics["loss/alignment"] = alignment
    return loss, metrics | {"loss": loss}
