"""The velocity loss and the representation alignment loss of each sample. Masking is left to the caller's weights."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.system.arrays import AnyArray

TIME_RANGES = 4  # number of equal ranges of t in [0, 1] whose losses are reported separately


def squared_error(
    prediction: Mapping[str, Array], target: Latents, valid: Mapping[str, AnyArray]
) -> Float[Array, "B M"]:
    """Squared error of each sample and modality, averaged over pixels and channels, in float32.

    Column m is the m-th modality of `target`. For modalities in `valid`, bool [B, h, w], the average is over the cells
    that are valid; it is 0 if there are none.
    """

    def error(m: str) -> Float[Array, " B"]:
        squares = jnp.square(prediction[m].astype(jnp.float32) - target[m].astype(jnp.float32))
        if m not in valid:
            return jnp.mean(squares, axis=(1, 2, 3))
        counted = valid[m].astype(jnp.float32)
        return (squares.mean(-1) * counted).sum((1, 2)) / jnp.maximum(counted.sum((1, 2)), 1.0)

    return jnp.stack([error(m) for m in target], -1)


def evened(error: Float[Array, "B M"]) -> Float[Array, "B M"]:
    """Errors e over 1 + e, with a constant in place of the latter e, so that large ones do not drown the others.

    This is the adaptive weight of MeanFlow with the power 1; its gradient is that of log(1 + e), the loss of Decoupled
    MeanFlow without learned variances. The 1 is the variance of the noise. With the published 0.01 nearly all errors
    would count alike, and far more than those of the velocity, which then drifts away from the data.
    """
    return error / (1 + jax.lax.stop_gradient(error))


def mean_weights(supervised: Bool[AnyArray, "B M"]) -> Float[Array, "B M"]:
    """Weights with which a sum over samples is each modality's mean over its supervised samples of the GLOBAL batch.

    A modality that no sample supervises gets zeros, not NaN. As weights of a sum they stay exact when the batch is
    split over devices or over accumulation steps.
    """
    mask = jnp.asarray(supervised, jnp.float32)
    return mask / jnp.maximum(mask.sum(0, keepdims=True), 1.0)


def by_time(
    error: Float[Array, "B M"], supervised: Bool[AnyArray, "B M"], t: Float[AnyArray, "B M"]
) -> dict[str, Float[Array, "M R"]]:
    """Sums and counts of the supervised errors in each of `TIME_RANGES` equal ranges of t.

    Unlike means, sums and counts add up over parts of a batch and over steps. Range r is [r / R, (r + 1) / R), and
    t = 1 belongs to the last one.
    """
    index = jnp.clip((t * TIME_RANGES).astype(jnp.int32), 0, TIME_RANGES - 1)
    member = (index[..., None] == np.arange(TIME_RANGES)) & supervised[..., None]
    # A select, as a product with 0 would spread an error that is not finite to the other ranges.
    errors = jnp.where(member, error[..., None], 0.0).sum(0)
    return {"by_time/error": errors, "by_time/count": member.astype(jnp.float32).sum(0)}


def negative_cosine(features: Float[AnyArray, "B T D"], target: Float[AnyArray, "B T D"]) -> Float[Array, " B"]:
    """The REPA loss: minus the cosine of projected and target tokens, averaged over tokens; in [-1, 1].

    Both are normalised in float32, as a norm in low precision is a known cause of NaN here.
    """

    def unit(x: AnyArray) -> Array:
        x = jnp.asarray(x, jnp.float32)
        return x / jnp.sqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-24))

    return -jnp.mean(jnp.sum(unit(features) * unit(target), -1), -1)


def told_apart(features: Float[AnyArray, "B T D"], share: float) -> Float[Array, "B T D"]:
    """(x - share * mean) / deviation, by sample and feature over its tokens, float32 (iREPA, arXiv 2512.10794).

    What all tokens of an image have in common dominates their features; with less of it, a cosine asks where things
    are.
    """
    x = jnp.asarray(features, jnp.float32)
    return (x - share * x.mean(1, keepdims=True)) / (x.std(1, keepdims=True) + 1e-6)
