"""What the convolutional autoencoder learns: images that come back alike, edges included, through noisy latents."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.losses import mean_weights
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders import conv
from mmgen_jax.frozen.autoencoders.conv_layers import ConvConfig
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.train_autoencoder import beginning
from mmgen_jax.training.objective import Metrics
from mmgen_jax.training.optimizer import make_optimizer
from mmgen_jax.training.state import TrainState, init_state
from mmgen_jax.training.step import Training, accumulated_gradients, advanced, programs

SMOOTH = 0.01  # differences below this count by their square, so that the loss has a gradient everywhere
EDGES = 1.0  # weight of the differences of neighbours
PRIOR = 0.01  # weight of the size of latents


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Example:
    """Images of a batch; every leaf has the batch as its leading axis.

    Attributes:
      images: in [-1, 1], of all modalities.
      valid: 1 where a pixel counts, 0 in holes.
      weights: weight of each sample and modality in the loss; each modality's weights add up to 1 or are 0.
      noise: standard normals of the latents' shape.
    """

    images: Float[Array, "B M H W 3"]
    valid: Float[Array, "B M H W"]
    weights: Float[Array, "B M"]
    noise: Float[Array, "B M h w K"]


def make_example(config: ConvConfig, batch: Mapping[str, AnyArray], key: jax.Array) -> Example:
    """The example of a GLOBAL batch, as the pipeline reads it. All random numbers of a step are drawn here."""
    names = config.modalities
    images = conv.stacked({m: to_array(jnp.asarray(batch[m])) for m in names}, names)
    everywhere = jnp.ones(images.shape[:1] + images.shape[2:4], bool)
    valid = jnp.stack([batch.get(holes.key(m), everywhere) for m in names], 1).astype(jnp.float32)
    sides = tuple(side // config.factor for side in images.shape[2:4])
    return Example(
        images=images,
        valid=valid,
        weights=mean_weights(batch["present"]),
        noise=jax.random.normal(keys.stream(key, "noise"), (*images.shape[:2], *sides, config.channels)),
    )


def difference(
    prediction: Float[AnyArray, "B M H W C"], target: Float[AnyArray, "B M H W C"], valid: Float[AnyArray, "B M H W"]
) -> Float[Array, "B M"]:
    """How far images are from those that they should be, averaged over the pixels that count, and their channels.

    With d = prediction - target it is sqrt(d^2 + s^2) - s (Charbonnier, s = `SMOOTH`) + d^2, and `EDGES` times the
    first term of the differences of d between neighbours in both directions, each the mean over its pairs. 0 where no
    pixel counts.
    """
    change = jnp.asarray(prediction) - target
    return _mean(_charbonnier(change) + jnp.square(change), valid) + EDGES * (
        _mean(_charbonnier(jnp.diff(change, axis=2)), valid[:, :, 1:] * valid[:, :, :-1])
        + _mean(_charbonnier(jnp.diff(change, axis=3)), valid[..., 1:] * valid[..., :-1])
    )


def _charbonnier(x: Array) -> Array:
    return jnp.sqrt(jnp.square(x) + SMOOTH**2) - SMOOTH


def _mean(values: Float[AnyArray, "B M H W C"], valid: Float[AnyArray, "B M H W"]) -> Float[Array, "B M"]:
    return (values.mean(-1) * valid).sum((2, 3)) / jnp.maximum(valid.sum((2, 3)), 1.0)


def example_loss(
    config: ConvConfig, dtype: str, noise: float, params: Params, example: Example
) -> tuple[Float[Array, ""], Metrics]:
    """Loss and metrics of a global batch, or of a part of it: the losses of parts add up to that of the whole.

    Latents are normal variables whose deviation is fixed, and whose mean the encoder finds. Their divergence from
    standard normals, up to a constant half of the mean's square, keeps them from outgrowing the noise (the VAE of
    Kingma & Welling 2014, with one variance). Statistics of the batch would do so as well, but a batch has too few
    samples: the decoder would see each channel at a size that varies by several percent.
    """
    net = conv.network(config, dtype, beginning.held(params))
    z = net.encode(example.images, config.modalities)
    found = net.decode(z + noise * example.noise, config.modalities)
    by_modality = (example.weights * difference(found, example.images, example.valid)).sum(0)
    size = (example.weights * jnp.square(z).mean((2, 3, 4))).sum(0).mean() / 2
    parts = {f"loss/{m}": by_modality[i] for i, m in enumerate(config.modalities)}
    loss = by_modality.mean() + PRIOR * size
    return loss, OrderedDict({"loss": loss, "loss/size": size}) | parts


def make_training(chosen: Settings, config: ConvConfig, mesh: Mesh) -> Training:
    """Makes the training step of an autoencoder on the devices of a mesh; all numbers are functions of seed and step.

    Every device has the whole network, and computes its part of the batch.
    """
    tx = make_optimizer(chosen.optim, chosen.train.steps)
    loss = functools.partial(example_loss, config, chosen.autoencoder.dtype, chosen.autoencoder.noise)

    def norms(*trees: Params) -> Array:
        return jnp.stack([optax.global_norm(tree) for tree in trees])

    def step(state: TrainState, inputs: tuple[()], batch: Mapping[str, Array]) -> tuple[TrainState, Metrics]:
        del inputs  # nothing is frozen
        key = jax.random.fold_in(keys.of_seed(chosen.seed, "train"), state.step)
        example = make_example(config, batch, key)
        grads, metrics = accumulated_gradients(loss, state.params, example, chosen.train.accumulate)
        return advanced(state, grads, metrics, tx, chosen.optim, norms)

    def everywhere(mesh: Mesh, shapes: TrainState) -> TrainState:
        return jax.tree.map(lambda _: sharding.replicated(mesh), shapes)

    return programs(step, functools.partial(init_state, functools.partial(conv.init, config), tx), mesh, everywhere)
