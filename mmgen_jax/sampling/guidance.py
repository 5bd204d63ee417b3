"""Guidance: functions that turn a network into the velocity function that a solver follows.

A network is any `network(x, t, prompt)` that returns velocities, or (velocities, features) as `MMDiT` does. `bind`
fixes the prompt; `classifier_free` also evaluates the network without the class and extrapolates. Both keep the
solvers' convention that column m of t is the time of the m-th key of x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.sampling.fields import VelocityFn

Velocities = Mapping[str, jax.Array]
Network = Callable[[Latents, jax.Array, Prompt], Velocities | tuple[Velocities, jax.Array | None]]


def _velocity(network: Network, x: Latents, t: jax.Array, prompt: Prompt) -> Latents:
    out = network(x, t, prompt)
    velocity = out[0] if isinstance(out, tuple) else out
    return Latents((name, velocity[name]) for name in x)


def bind(network: Network, prompt: Prompt) -> VelocityFn:
    """Makes `velocity_fn(x, t)` of a network by fixing its prompt; there is no guidance."""
    return lambda x, t: _velocity(network, x, t, prompt)


def classifier_free(
    network: Network,
    prompt: Prompt,
    null_class: int,
    scale: float | jax.Array,
    interval: tuple[float, float] = (0.0, 1.0),
    given: Sequence[str] = (),
) -> VelocityFn:
    """Classifier-free guidance on the class (Ho & Salimans 2022): v = v_null + scale (v_class - v_null).

    Args:
      network: (x, t, prompt) -> velocities.
      prompt: classes and tasks of B samples.
      null_class: the class of the unconditional branch. Given modalities and the task stay the same in both branches.
      scale: strength of guidance; 1 means none.
      interval: (low, high); a modality is guided while low <= its t <= high (Kynkaanniemi et al. 2024) and follows
        the conditional velocity elsewhere. If no generated modality is inside, the second branch is not computed.
      given: names of the given modalities. They are held at a fixed time, which `interval` does not look at.
    """
    low, high = interval

    def neighbours(a: jax.Array, b: jax.Array) -> jax.Array:
        # The two branches of a sample are neighbours in the doubled batch, so that a batch that is split over devices
        # doubles without samples moving between devices.
        return jnp.stack([a, b], 1).reshape(-1, *a.shape[1:])

    def guided(x: Latents, t: jax.Array) -> Latents:
        both = jax.tree.map(lambda leaf: jnp.repeat(leaf, 2, axis=0), x)
        prompts = jax.tree.map(neighbours, prompt, prompt.null(null_class))
        out = _velocity(network, both, jnp.repeat(t, 2, axis=0), prompts)
        mixed = Latents()
        for m, name in enumerate(x):
            with_class, without = out[name][0::2], out[name][1::2]
            inside = ((low <= t[:, m]) & (t[:, m] <= high))[:, None, None, None]
            mixed[name] = jnp.where(inside, without + scale * (with_class - without), with_class)
        return mixed

    def velocity_fn(x: Latents, t: jax.Array) -> Latents:
        if low <= 0 and high >= 1:
            return guided(x, t)
        free = jnp.array([m for m, name in enumerate(x) if name not in given])
        inside = (low <= t[:, free]) & (t[:, free] <= high)
        return jax.lax.cond(inside.any(), guided, bind(network, prompt), x, t)

    return velocity_fn
