"""Makes noisy training examples of batches, and computes their loss."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmgen_jax.diffusion import average, conditioning, flow, guided, keys, losses
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.modalities import holes
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.training.inputs import Batch, Inputs

Metrics = OrderedDict[str, Array]  # losses first; the order survives jit, which sorts plain dicts


@dataclass(frozen=True)
class Objective:
    """The training objective.

    Attributes:
      path: the path between data and noise.
      mix: the rows of the training mix, which say how often which modalities are given.
      time_sampler: (key, shape) -> times t in [0, 1] of that shape.
      loss_weights: [M] floats, the weight of each modality's velocity loss.
      alignment_weight: weight of the representation alignment loss (REPA); has no effect without features.
      alignment_norm: 0, or the share that `losses.told_apart` takes of features before they are targets (iREPA).
      label_dropout: probability in [0, 1] that a sample's class is replaced by the null class.
      guided_share: probability in [0, 1] that a sample learns a guided velocity, of a model that takes the scale of
        guidance as an input.
      decoded_weight: weight of the errors of images that are predicted from rgb in one step, see `decoded`.
    """

    path: flow.Path
    mix: Sequence[conditioning.Row]
    time_sampler: conditioning.TimeSampler
    loss_weights: tuple[float, ...]
    alignment_weight: float
    alignment_norm: float
    label_dropout: float
    guided_share: float
    decoded_weight: float = 0.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Example:
    """Network inputs and targets of a batch; every leaf has the batch as its leading axis.

    Attributes:
      x: noisy latents [B, h, w, K] of each modality.
      target: their velocities, of the same shapes, which the network is to predict.
      t: times in [0, 1] of each sample and modality.
      r: ends of the ways whose average velocity a flow map learns, at most t; None for other models.
      prompt: class and task of each sample, and the scale of guidance of a network that takes it as an input.
      weights: weight of each sample and modality in the velocity loss; each modality's weights add up to 1 or are 0.
      valid: bool [B, h, w], which cells of the target count in the loss, of each modality with holes.
      features: features of rgb [B, N, D], or None.
      feature_weight: weight of each sample in the alignment loss.
      without: the prompt without classes and scale, of a network that takes the scale; None of others.
    """

    x: Latents
    target: Latents
    t: Float[Array, "B M"]
    r: Float[Array, "B M"] | None
    prompt: Prompt
    weights: Float[Array, "B M"]
    valid: Mapping[str, AnyArray]
    features: AnyArray | None
    feature_weight: Float[Array, " B"]
    without: Prompt | None = None


def make_example(
    architecture: Architecture, objective: Objective, inputs: Inputs, batch: Batch, key: jax.Array
) -> Example:
    """Makes the example of a GLOBAL batch: draws roles, times, noise and dropped classes.

    All random numbers of a training step are drawn here, for the whole batch, so they do not depend on the mesh.
    """
    names = architecture.modalities
    x0 = inputs.latents(batch, keys.stream(key, "posterior"))
    x0, features = jax.lax.stop_gradient((x0, inputs.features(batch)))
    valid = {m: holes.cells(jnp.asarray(batch[k]), x0[m].shape[1]) for m in names if (k := holes.key(m)) in batch}
    present = batch["present"]
    if valid:  # a modality of which no cell is valid is absent
        everywhere = jnp.ones(len(present), bool)
        present &= jnp.stack([valid[m].any((1, 2)) if m in valid else everywhere for m in names], -1)
    chosen = keys.stream(key, "conditions")
    maps = architecture.model.decoupled > 0
    conditions = conditioning.draw(chosen, objective.mix, present, objective.time_sampler, ends=maps)

    x, target, noises = Latents(), Latents(), keys.stream(key, "noise")
    for i, m in enumerate(names):
        noise = jax.random.normal(keys.stream(noises, m), x0[m].shape)
        x[m], target[m] = flow.interpolate(objective.path, x0[m], noise, conditions.t[:, i])

    rows = len(batch["class_id"])
    dropped = jax.random.bernoulli(keys.stream(key, "labels"), objective.label_dropout, (rows,))
    prompt = Prompt(
        class_id=jnp.where(dropped | (batch["class_id"] < 0), architecture.null_class, batch["class_id"]),
        task=conditions.task,
    )
    without = None
    if largest := architecture.model.guided:
        without = prompt.only(jnp.zeros(rows, bool), architecture.null_class)
        scale = guided.scales(keys.stream(key, "guidance"), rows, largest, objective.guided_share)
        prompt = dataclasses.replace(prompt, scale=scale)
    return Example(
        x=x,
        target=target,
        t=conditions.t,
        r=conditions.r,
        prompt=prompt,
        weights=losses.mean_weights(conditions.supervised),
        valid=valid,
        features=features,
        feature_weight=losses.mean_weights(batch["present"])[:, names.index("rgb") if "rgb" in names else 0],
        without=without,
    )


def average_error(
    apply: Callable, params: Params, example: Example, r: Float[Array, "B M"], velocity: Mapping[str, Array]
) -> Float[Array, "B M"]:
    """Squared errors of a flow map's average velocities from t to r, where it has this velocity at t.

    The target comes from a computation of its own, of which no gradient is taken: neither the attention kernel nor
    what devices send to each other has a derivative of both kinds.
    """
    fixed, v = jax.lax.stop_gradient((params, velocity))

    def constant(x: Latents, t: Array) -> Latents:
        return apply(fixed, x, t, example.prompt, r=r, forward=True)[0]

    target = average.target(constant, example.x, example.t, r, v)
    found, _ = apply(params, example.x, example.t, example.prompt, r=r)
    return losses.squared_error(found, target, example.valid)


def guided_target(apply: Callable, params: Params, example: Example) -> Latents:
    """The velocities that a network is to predict, which are guided where it takes the scale of guidance as an input.

    The leaning on the class is what the network itself tells, as a constant: with the class and without, at scale 1.
    """
    scale = example.prompt.scale
    if scale is None or example.without is None:
        return example.target
    plain, fixed = dataclasses.replace(example.prompt, scale=None), jax.lax.stop_gradient(params)
    both = (apply(fixed, example.x, example.t, prompt)[0] for prompt in (plain, example.without))
    return guided.target(example.target, scale, *both)


def example_loss(
    apply: Callable,
    objective: Objective,
    params: Params,
    example: Example,
    decoded: Callable[[Example, Mapping[str, Array]], Array] | None = None,
) -> tuple[Float[Array, ""], Metrics]:
    """Loss and metrics of a global batch or of a part of it.

    The weights in `example` were normalised over the global batch, so the losses of its parts add up to the loss of
    the whole. `apply` has the signature of `Architecture.apply`, and `decoded` tells errors [B, M] of the images that
    a velocity leads to.

    A flow map learns both the velocity, from the data, and the average velocity from t to r, from itself: by the
    identity in `diffusion.average`, in which the flow is the velocity that it has learned. So targets of the average
    have no noise, and the errors can be weighed without a bias.
    """
    velocity, features = apply(params, example.x, example.t, example.prompt)
    error = losses.squared_error(velocity, guided_target(apply, params, example), example.valid)
    per_modality = (example.weights * error).sum(0)
    loss = per_modality @ jnp.asarray(objective.loss_weights)
    metrics = OrderedDict(loss=loss) | {f"loss/{m}": per_modality[i] for i, m in enumerate(example.target)}
    metrics |= losses.by_time(error, example.weights > 0, example.t)
    if example.r is not None:
        apart = average_error(apply, params, example, example.r, velocity)
        loss += (example.weights * losses.evened(apart)).sum(0) @ jnp.asarray(objective.loss_weights)
        metrics |= {f"average/{m}": e for m, e in zip(example.target, (example.weights * apart).sum(0), strict=True)}
    if decoded is not None:
        wrong = (example.weights * decoded(example, velocity)).sum(0)
        loss += objective.decoded_weight * wrong.sum()
        metrics |= {f"decoded/{m}": wrong[i] for i, m in enumerate(example.target)}
    if features is not None and example.features is not None:
        share = objective.alignment_norm
        wanted = losses.told_apart(example.features, share) if share else example.features
        alignment = (example.feature_weight * losses.negative_cosine(features, wanted)).sum()
        loss += objective.alignment_weight * alignment
        metrics["loss/alignment"] = alignment
    return loss, metrics | {"loss": loss}
