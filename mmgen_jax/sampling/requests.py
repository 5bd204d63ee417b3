"""Makes the random arrays that a sampler takes of a request for samples, and its batches.

Sample i of a request depends on the key and on i alone. It depends neither on the batch it is computed in nor on how
many samples there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.randomness import one_each


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Arrays:
    """The random arrays of one batch of a request.

    Attributes:
      noise: standard normal noise [B, H, W, C] of each modality, in the model's order.
      key: [B] typed keys, one per sample, for what draws noise on the way.
    """

    noise: Latents
    key: jax.Array


def draw_keys(key: jax.Array, draws: jax.Array) -> jax.Array:
    """Keys [B] of the draws with the numbers `draws` [B] of a request's samples; draw 0 has the request's own key."""
    return jax.vmap(lambda k: jnp.where(k == 0, key, jax.random.fold_in(keys.stream(key, "draw"), k)))(draws)


def noise(key: jax.Array, indices: jax.Array, shapes: Mapping[str, tuple[int, ...]]) -> Latents:
    """Standard normal noise [B, H, W, C] of each modality for the samples `indices` [B]; `shapes` are [H, W, C].

    The noise of a modality does not depend on which other modalities there are. There is one key for all samples, or
    one for each.
    """
    sizes = {m: math.prod(shape) for m, shape in shapes.items()}
    streams = jnp.array([keys.number(m) for m in shapes])

    def one(key: jax.Array, index: jax.Array, stream: jax.Array) -> jax.Array:
        sample_key = jax.random.fold_in(key, index)
        return jax.random.normal(jax.random.fold_in(sample_key, stream), (max(sizes.values()),))

    # One draw per sample serves all modalities, which compiles four times as fast as a draw for each of them. The k-th
    # number of a draw depends on the key and k alone, so neither the length of the draw nor other modalities matter.
    flat = jax.vmap(jax.vmap(one, (None, None, 0)), (_axis(key), 0, None))(key, indices, streams)
    return Latents((m, flat[:, i, : sizes[m]].reshape(-1, *shape)) for i, (m, shape) in enumerate(shapes.items()))


def step_keys(key: jax.Array, indices: jax.Array) -> jax.Array:
    """Keys [B] for the noise that a stochastic solver adds to the samples `indices` [B], of one key or one for each."""
    return jax.vmap(lambda k, i: keys.stream(jax.random.fold_in(k, i), "solver"), (_axis(key), 0))(key, indices)


def _axis(key: jax.Array) -> int | None:
    """The axis of samples of a key: the first one if there is one for each."""
    return 0 if one_each(key) else None


def request(key: jax.Array, indices: jax.Array, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Makes the random arrays of the samples `indices` [B] of a request; works under jit.

    Args:
      key: the random key of the request, or [B] one for each sample, see `draw_keys`.
      indices: int [B], numbers of the samples.
      shapes: latent shape [H, W, C] of every modality of the model, in its order.
    """
    return Arrays(noise(key, indices, shapes), step_keys(key, indices))


def batch_size(count: int, limit: int, shares: int = 1) -> int:
    """Size of the batches for `count` samples: `limit`, or the next power of two if there are fewer samples.

    It is rounded up to a multiple of the `shares` into which devices split a batch.

    So only a few sizes are ever compiled, and a single picture does not cost as much as `limit` pictures.
    """
    return -(-min(limit, 1 << (count - 1).bit_length()) // shares) * shares


def batches(count: int, size: int) -> Iterator[np.ndarray]:
    """Yields sample numbers 0 .. count - 1 in batches of exactly `size`; the last batch repeats the last sample."""
    for first in range(0, count, size):
        yield np.minimum(np.arange(first, first + size), count - 1)
