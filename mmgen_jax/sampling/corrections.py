"""Makes samples of a composition right: Langevin steps at each time, and a population of weighted particles.

The densities that composed samples should have on their way from noise to data are pi_t = prod_j p_t,j^c_j, with the
noisy density p_t,j of branch j and its coefficient c_j; at t = 0 this is the product that is wanted. A solver that
follows the composed velocity v does not stay on them.

Langevin steps x + e s + sqrt(2 e (1 - r^2)) z with the score s of pi_t lead back to it from anywhere. Their size
follows the signal-to-noise rule of Song et al. (2021): e = 2 r^2 E|z|^2 / E|s|^2, with means over all that one key
serves. The factor 1 - r^2 is ours: with it the steps leave a Gaussian of one variance exactly as it is, while without
it they widen it by r^2. Directions in which a density is much wider than on average become narrower by up to r^2.

Particles follow v too, and weights make up for what v misses (Feynman-Kac correctors, Skreta et al. 2025). On the
linear path d log w / dt = (1 - t) / t sum_j c_j |v_j - v|^2. This follows from the continuity equations of all p_t,j,
in which the divergences of the velocities cancel, and from s_j = -(x + (1 - t) v_j) / t. If the weights of a sample's
P particles become too unequal (effective number below P / 2), particles are drawn anew by their weights (systematic
resampling), and Langevin steps move equal ones apart. As P and the number of the solver's steps grow, samples become
exact.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import randomness
from mmgen_jax.sampling.fields import Field, Interval, Placed, VelocityFn

SIGNAL_TO_NOISE = 0.25

SpreadField = Callable[[Latents, jax.Array], tuple[Latents, Mapping[str, jax.Array]]]
Carry = tuple[Latents, Any, Any]  # x, the solver's memory, the correction's own state


@dataclass(frozen=True)
class Uncorrected:
    """No correction: x stays as the solver has made it.

    Attributes:
      field: the velocity that the solver follows.
      axis: axis of the samples in each array.
    """

    field: Field
    axis: int = dataclasses.field(default=0, kw_only=True)

    def start(self, noise: Latents) -> tuple[Latents, Any]:
        """Returns x at t = 1 from noise [B, ...], and the state of the correction."""
        return noise, None

    def correct(self, x: Latents, memory: Any, state: Any, interval: Interval) -> Carry:
        """Corrects x, which a solver's step has made; may change the solver's memory and the correction's state."""
        del interval
        return x, memory, state

    def finish(self, x: Latents, state: Any) -> Latents:
        """Returns x0 [B, ...] of each modality."""
        del state
        return x


@dataclass(frozen=True)
class Langevin(Uncorrected):
    """Langevin steps that follow each step of a solver except the last, on the linear path.

    Attributes:
      steps: number of steps.
      key: key of the request, one for all samples or one for each.
    """

    steps: int
    key: jax.Array

    def correct(self, x: Latents, memory: Any, state: Any, interval: Interval) -> Carry:
        moved = functools.partial(self._follow, interval=interval)
        return jax.lax.cond(interval.last, lambda x: x, moved, x), memory, state

    def _follow(self, x: Latents, interval: Interval) -> Latents:
        return self.move(x, self.field(x, interval.then), interval)

    def move(self, x: Latents, velocity: Latents, interval: Interval) -> Latents:
        """Makes the steps at the end of the interval, where x has this velocity."""
        key = randomness.fold(randomness.stream(self.key, "langevin"), interval.number)
        for k in range(self.steps):
            x = self._step(x, self.field(x, interval.then) if k else velocity, interval.then, randomness.fold(key, k))
        return x

    def _step(self, x: Latents, velocity: Latents, t: jax.Array, key: jax.Array) -> Latents:
        noise, moved = randomness.normal(key, x, self.axis), Latents()
        for m, (name, value) in enumerate(x.items()):
            score = flow.score_from_velocity(flow.LINEAR, velocity[name], value, t[m])
            apart = self.axis if randomness.one_each(self.key) else None
            axes = [a for a in range(value.ndim) if a != apart]
            size = 2 * SIGNAL_TO_NOISE**2 / jnp.maximum(jnp.square(score).mean(axes, keepdims=True), 1e-12)
            step = size * score + jnp.sqrt(2 * size * (1 - SIGNAL_TO_NOISE**2)) * noise[name]
            moved[name] = jnp.where(t[m] > 0, value + step, value)  # the score is unbounded at t = 0
        return moved


@dataclass(frozen=True)
class Particles(Langevin):
    """A population of P weighted particles for each of B samples; arrays are [P, B, ...], the state is log w [P, B].

    Langevin steps move particles apart that are equal.

    Attributes:
      spread: composed velocity of the particles, and its spread [P, B] over branches (`Composed.with_spread`).
      count: P.
    """

    spread: SpreadField = dataclasses.field(kw_only=True)
    count: int = dataclasses.field(kw_only=True)

    def start(self, noise: Latents) -> tuple[Latents, jax.Array]:
        """Makes `noise` [B, ...] the first particle of each sample, and draws the others."""
        rows = next(iter(noise.values())).shape[0]
        more = Latents((m, jnp.broadcast_to(z, (self.count - 1, *z.shape))) for m, z in noise.items())
        drawn = randomness.normal(randomness.stream(self.key, "particles"), more, self.axis)
        return Latents((m, jnp.concatenate([z[None], drawn[m]])) for m, z in noise.items()), jnp.zeros(
            (self.count, rows)
        )

    def correct(self, x: Latents, memory: Any, state: jax.Array, interval: Interval) -> Carry:
        """Weighs, resamples and moves the particles; does nothing at the end, where the weights no longer change."""
        followed = functools.partial(self._correct, interval=interval)
        return jax.lax.cond(interval.last, lambda *carry: carry, followed, x, memory, state)

    def _correct(self, x: Latents, memory: Any, state: jax.Array, interval: Interval) -> Carry:
        then = interval.then
        velocity, spread = self.spread(x, then)
        for m, name in enumerate(x):
            rate = jnp.where(then[m] > 0, (1 - then[m]) / jnp.where(then[m] > 0, then[m], 1), 0)
            state += (then[m] - interval.now[m]) * rate * spread[name]
        weights = jax.nn.softmax(state, axis=0)
        unequal = 1 / jnp.square(weights).sum(0) < self.count / 2
        key = randomness.fold(randomness.stream(self.key, "resampling"), interval.number)
        chosen = systematic(weights, randomness.uniform(key, weights.shape[1]))
        chosen = jnp.where(unequal, chosen, jnp.arange(self.count)[:, None])
        x, velocity, memory = jax.tree.map(lambda leaf: _take(leaf, chosen), (x, velocity, memory))
        return self.move(x, velocity, interval), memory, jnp.where(unequal, 0, state)

    def finish(self, x: Latents, state: jax.Array) -> Latents:
        """Draws one of each sample's particles by its weight."""
        drawn = randomness.uniform(randomness.stream(self.key, "choice"), state.shape[1])
        chosen = (jnp.cumsum(jax.nn.softmax(state, axis=0), 0) < drawn).sum(0).clip(max=self.count - 1)[None]
        return jax.tree.map(lambda leaf: _take(leaf, chosen)[0], x)


def choose(
    velocity_fn: VelocityFn, placed: Placed, key: jax.Array | None, steps: int | None, particles: int
) -> Uncorrected:
    """Makes the correction of a request.

    Args:
      velocity_fn: the velocity, from `composed` if there are particles.
      placed: adds what is held to x and t of the generated modalities.
      key: key of the request; not None if anything is corrected.
      steps: number of Langevin steps after each step of the solver; None means 0, or 1 with particles.
      particles: number of particles of each sample.

    Raises:
      ValueError: there are particles without Langevin steps, or of a velocity that is not composed.
    """
    if particles > 1 and steps == 0:
        raise ValueError(f"corrector=0: must be at least 1 with {particles} particles, or None")

    def field(x: Latents, t: jax.Array, r: jax.Array | None = None) -> Latents:
        ends = () if r is None else placed(x, r)[1:]  # what is held ends where it is
        velocity = velocity_fn(*placed(x, t), *ends)
        return Latents((m, velocity[m].astype(jnp.float32)) for m in x)

    def spread(x: Latents, t: jax.Array) -> tuple[Latents, Mapping[str, jax.Array]]:
        velocity, spread = velocity_fn.with_spread(*placed(x, t))  # type: ignore[attr-defined]
        return Latents((m, velocity[m].astype(jnp.float32)) for m in x), {m: spread[m] for m in x}

    if not steps and particles == 1:
        return Uncorrected(field)
    assert key is not None, "`sample` refuses corrections without one"
    if particles > 1:
        if not hasattr(velocity_fn, "with_spread"):
            raise ValueError(f"particles={particles}: the velocity must be one that `composed` has made")
        every = jax.vmap(field, in_axes=(0, None))
        return Particles(
            field=every, steps=steps or 1, key=key, axis=1, spread=jax.vmap(spread, in_axes=(0, None)), count=particles
        )
    return Langevin(field, steps or 0, key)


def systematic(weights: jax.Array, offset: jax.Array) -> jax.Array:
    """Numbers [P, B] of the particles that are kept, each w P times up to rounding, for weights w [P, B] that sum to 1.

    `offset` [B] in [0, 1) is the only random number of each sample (Kitagawa 1996).
    """
    count = len(weights)
    points = (offset + jnp.arange(count)[:, None]) / count
    search = jax.vmap(jnp.searchsorted, in_axes=1, out_axes=1)
    return search(jnp.cumsum(weights, 0), points).clip(max=count - 1)


def _take(leaf: jax.Array, chosen: jax.Array) -> jax.Array:
    """Row chosen[p, b] of each sample b, along the axis of particles of a leaf [P, B, ...]."""
    return jnp.take_along_axis(leaf, chosen.reshape(chosen.shape + (1,) * (leaf.ndim - 2)), axis=0)
