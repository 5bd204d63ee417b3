"""Random numbers of a batch that is sampled, from one key for all samples or from one for each.

With a key [B] for each sample, a sample's numbers depend neither on the batch it is in nor on the batch's size.
"""

from __future__ import annotations

import jax
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.system.arrays import AnyArray


def one_each(key: jax.Array) -> bool:
    """Whether these are typed keys [B], one for each sample, and not one key for all of them."""
    return bool(jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key)) and key.ndim == 1


def fold(key: jax.Array, number: int | AnyArray | np.uint32) -> jax.Array:
    """Folds a number into the key or into each of the keys."""
    return jax.vmap(jax.random.fold_in, (0, None))(key, number) if one_each(key) else jax.random.fold_in(key, number)


def stream(key: jax.Array, name: str) -> jax.Array:
    """The stream `name` within the key or within each of the keys."""
    return fold(key, keys.number(name))


def normal(key: jax.Array, like: Latents, axis: int = 0) -> Latents:
    """Standard normal numbers with the shapes of `like`, whose samples are numbered along `axis`."""

    def draw(key: jax.Array, shapes: tuple[tuple[int, ...], ...]) -> tuple[jax.Array, ...]:
        own = jax.random.split(key, len(shapes))
        return tuple(jax.random.normal(own[m], shape) for m, shape in enumerate(shapes))

    shapes = tuple(value.shape for value in like.values())
    if one_each(key):
        alone = tuple(shape[:axis] + shape[axis + 1 :] for shape in shapes)
        drawn = jax.vmap(lambda one: draw(one, alone), out_axes=axis)(key)
    else:
        drawn = draw(key, shapes)
    return Latents(zip(like, drawn, strict=True))


def uniform(key: jax.Array, batch: int) -> jax.Array:
    """A number in [0, 1) for each sample, [B]."""
    return jax.vmap(jax.random.uniform)(key) if one_each(key) else jax.random.uniform(key, (batch,))
