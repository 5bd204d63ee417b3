"""Looks at a model's velocities where nothing is drawn: at points of known data, and for rows of any number."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion.conditioning import task_row
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.models.architectures import Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import sharding
from mmgen_jax.sampling import requests, roles
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.sampling.guidance import velocity
from mmgen_jax.sampling.roles import Time
from mmgen_jax.system.arrays import AnyArray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Known:
    """Samples that are known, and what of them is asked for.

    Attributes:
      wanted: clean latents [n, h, w, C] of the modalities whose likelihood or information is asked for.
      given: clean latents [n, h, w, C] of the modalities that are given; all others are ignored.
      class_id: int [n]; the null class means no class.
    """

    wanted: Mapping[str, AnyArray]
    given: Mapping[str, AnyArray]
    class_id: AnyArray

    def __len__(self) -> int:
        return len(self.class_id)

    def repeated(self, draws: int) -> Known:
        """Each sample `draws` times, one after another."""
        return jax.tree.map(lambda x: np.repeat(x, draws, axis=0), self)


def velocity_of(
    layout: Layout, params: Params, class_id: AnyArray, noise: Latents, given: Mapping[str, AnyArray], time: Time
) -> VelocityFn:
    """The velocity of any modalities x, while others are given and the rest is ignored.

    Args:
      layout: the network.
      params: its weights.
      class_id: int [B]; the null class means no class.
      noise: standard normal noise [B, h, w, C] of at least all modalities that are not in x.
      given: clean latents [B, h, w, C] of those that are given.
      time: t at which these are held.
    """
    names = layout.architecture.modalities
    alone = jnp.array([m in given for m in names])

    def velocity_fn(x: Latents, t: jax.Array) -> Latents:
        column, everything, times = dict(zip(x, t.T, strict=True)), Latents(), []
        for m in names:
            held_at = time if m in given else 1.0
            everything[m] = x[m] if m in x else roles.hold(jnp.asarray(given.get(m, noise[m])), noise[m], held_at)
            times.append(column.get(m, jnp.full(len(t), held_at)))
        prompt = Prompt(jnp.asarray(class_id), task_row(jnp.tile(alone, (len(t), 1))))
        made = velocity(functools.partial(layout.apply, params), everything, jnp.stack(times, 1), prompt)
        return Latents((m, made[m]) for m in x)

    return velocity_fn


def over_rows(
    program: Callable[[Any], Any], rows: Any, batch: int, layout: Layout, progress: Callable[[int], object]
) -> Any:
    """What a program makes of rows, any number of them, in batches of one shape.

    Args:
      program: function of a tree of arrays whose first axis is the batch, to such a tree.
      rows: a tree of NumPy arrays with n rows each.
      batch: number of rows at once; it is rounded up to what the devices share.
      layout: tells the devices.
      progress: is told after each batch how many rows it had.
    """
    n = len(jax.tree.leaves(rows)[0])
    size = requests.batch_size(n, batch, sharding.parts(layout.mesh))
    parts = []
    for chosen in requests.batches(n, size):
        part = jax.device_put(jax.tree.map(lambda x, chosen=chosen: x[chosen], rows), sharding.batched(layout.mesh))
        parts.append(jax.tree.map(np.asarray, program(part)))
        progress(min(size, n - (len(parts) - 1) * size))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays)[:n], *parts)
