"""Errors of what one call of the network predicts from rgb, as images: what a single answer is judged by.

Velocities alone make latents near on average. Fine-tuned on errors of decoded images as well, at the start of the way
alone, one call answers as well as many (Garcia et al. 2024, "Fine-tuning image-conditional diffusion models is easier
than you think"): depth is right up to a scale and a shift, normals by their angle, regions by their names.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.training.objective import Example


def errors(
    autoencoder: Autoencoder, facts: Facts, path: flow.Path, example: Example, velocity: Mapping[str, Array]
) -> Float[Array, "B M"]:
    """Mean discrepancy of the images that a velocity leads to in one step, see `Modality.discrepancy`.

    It is 0 for samples of which more or less than rgb is given: these have many answers, and what is nearest to all of
    them is none of them.
    """
    names = tuple(example.target)

    def decoded(velocities: Mapping[str, Array]) -> Mapping[str, Array]:
        clean = (flow.x0_from_velocity(path, velocities[m], example.x[m], example.t[:, i]) for i, m in enumerate(names))
        return autoencoder.decode(Latents(zip(names, clean, strict=True)))

    found, truth = decoded(velocity), jax.lax.stop_gradient(decoded(example.target))
    single = example.prompt.task == names.index("rgb") + 1
    columns = []
    for m in names:
        where = jnp.ones(truth[m].shape[:3], bool)
        if m in example.valid:
            cells, factor = jnp.asarray(example.valid[m]), truth[m].shape[1] // example.valid[m].shape[1]
            where = jnp.repeat(jnp.repeat(cells, factor, 1), factor, 2)
        each = MODALITIES[m].discrepancy(found[m], truth[m], where, facts)
        mean = jnp.where(where, each, 0).sum((1, 2)) / jnp.maximum(where.sum((1, 2)), 1)
        columns.append(jnp.where(single, mean, 0))
    return jnp.stack(columns, 1)
