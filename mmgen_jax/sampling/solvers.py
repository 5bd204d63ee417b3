"""Solvers: from noise at t = 1 to data at t = 0 along any velocity function (MMGen section 3.4, SiT section 2).

A velocity function is any callable `velocity_fn(x, t) -> v` with x and v dicts of [B, H, W, C] and t [B, M] whose
column m is the time of the m-th key of x: a network with its prompt bound, a guided one, or an exact oracle.

A solver is a value, `Solver`, whose heart is a function that makes one step. `sample` initialises, runs one scan of
these steps over the grid of times, and finalises. A new solver is a step function here and a row in `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.system.errors import UsageError

VelocityFn = Callable[[Latents, jax.Array], Mapping[str, jax.Array]]
Field = Callable[[Latents, jax.Array], Latents]  # velocity of the M' free modalities at their times [M']
NoiseAt = Callable[[jax.Array], Latents]

EM_LAST_TIME = 0.04


class Interval(NamedTuple):
    """What one step goes over.

    Attributes:
      now: times [M'] at which the step begins, one for each free modality.
      then: times [M'] at which it ends.
      last: bool, whether it is the last step.
      noise: standard normal noise like x for stochastic solvers, None for the others.
    """

    now: jax.Array
    then: jax.Array
    last: jax.Array
    noise: Latents | None


Step = Callable[[Field, Latents, Any, Interval], tuple[Latents, Any]]


@dataclass(frozen=True)
class Solver:
    """A way to follow a velocity.

    Attributes:
      step: (field, x, memory, interval) -> (x, memory) at the end of the interval.
      init: x at t = 1 -> memory of the first step: whatever a multistep solver carries from step to step, or None.
      times: number of steps -> the solver's own grid of times [steps + 1], from 1 to 0.
      stochastic: whether steps draw noise.
      needs_score: whether steps need the score, which is known on the linear path only.
      evaluations: number of steps -> how often the velocity is evaluated in all.
    """

    step: Step
    init: Callable[[Latents], Any]
    times: Callable[[int], jax.Array]
    stochastic: bool
    needs_score: bool
    evaluations: Callable[[int], int]


def uniform_times(steps: int) -> jax.Array:
    """[steps + 1] times from 1 to 0 in equal steps: the grid of the ODE solvers."""
    return jnp.linspace(1.0, 0.0, steps + 1)


def last_step_times(steps: int) -> jax.Array:
    """[steps + 1] times: equal steps from 1 to 0.04, then 0, because the score is unbounded at t = 0 (SiT, REPA)."""
    return jnp.append(jnp.linspace(1.0, EM_LAST_TIME, steps), 0.0)


def _advance(x: Latents, velocity: Latents, interval: Interval) -> Latents:
    """x + dt v, where every modality has a dt of its own."""
    dt = interval.then - interval.now
    return Latents((name, x[name] + dt[m] * velocity[name]) for m, name in enumerate(x))


def euler(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """First order: follow the velocity at the beginning of the step."""
    return _advance(x, field(x, interval.now), interval), memory


def heun(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Second order: average the velocities at both ends of the step; the last step, to t = 0, is an Euler step."""
    first = field(x, interval.now)
    ahead = _advance(x, first, interval)

    def corrected() -> Latents:
        second = field(ahead, interval.then)
        return _advance(x, jax.tree.map(lambda a, b: (a + b) / 2, first, second), interval)

    return jax.lax.cond(interval.last, lambda: ahead, corrected), memory


def euler_maruyama(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """SDE with diffusion coefficient w = 2t: drift v - (w/2) score, noise sqrt(w |dt|), none on the last step."""
    velocity, following = field(x, interval.now), Latents()
    for m, name in enumerate(x):
        t, dt = interval.now[m], interval.then[m] - interval.now[m]
        score = flow.score_from_velocity(flow.LINEAR, velocity[name], x[name], t)
        spread = jnp.where(interval.last, 0.0, jnp.sqrt(2 * t * jnp.abs(dt)))
        following[name] = x[name] + dt * (velocity[name] - t * score) + spread * interval.noise[name]
    return following, memory


def _nothing(x: Latents) -> None:
    """The memory of solvers that look at one step only."""


def _one_each(steps: int) -> int:
    """Evaluations of solvers that look at the velocity once in every step."""
    return steps


SOLVERS: dict[str, Solver] = {
    "euler": Solver(euler, _nothing, uniform_times, stochastic=False, needs_score=False, evaluations=_one_each),
    "heun": Solver(
        heun, _nothing, uniform_times, stochastic=False, needs_score=False, evaluations=lambda steps: 2 * steps - 1
    ),
    "euler_maruyama": Solver(
        euler_maruyama, _nothing, last_step_times, stochastic=True, needs_score=True, evaluations=_one_each
    ),
}


def _field(velocity_fn: VelocityFn, names: tuple[str, ...], held: Mapping[str, jax.Array], given_time) -> Field:
    """Velocity of the free modalities, with the given ones held fixed at their own time."""

    def field(x: Latents, t: jax.Array) -> Latents:
        everything = Latents((name, held[name] if name in held else x[name]) for name in names)
        column = dict(zip(x, t, strict=True)) | dict.fromkeys(held, jnp.float32(given_time))
        batch = next(iter(x.values())).shape[0]
        time = jnp.broadcast_to(jnp.stack([column[name] for name in names]), (batch, len(names)))
        velocity = velocity_fn(everything, time)
        return Latents((name, velocity[name].astype(jnp.float32)) for name in x)

    return field


def _step_noise(x: Latents, key: jax.Array | None, step_noise: Mapping[str, jax.Array] | None, steps: int) -> NoiseAt:
    """Noise of step i: the one handed in, or drawn from (key, step), so that nothing of [steps, ...] is stored."""
    if step_noise is not None:
        # The last step adds no noise; the index is clipped so that reading there stays inside.
        return lambda i: Latents((name, jnp.asarray(step_noise[name])[jnp.minimum(i, steps - 2)]) for name in x)

    def draw(i: jax.Array, key: jax.Array, shapes: Mapping[str, tuple[int, ...]]) -> Latents:
        keys = jax.random.split(jax.random.fold_in(key, i), len(shapes))
        return Latents((name, jax.random.normal(keys[m], shape)) for m, (name, shape) in enumerate(shapes.items()))

    if key is not None and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1:
        shapes = {name: value.shape[1:] for name, value in x.items()}
        return lambda i: jax.vmap(lambda one: draw(i, one, shapes))(key)
    return lambda i: draw(i, key, {name: value.shape for name, value in x.items()})


def _grid(times, default: jax.Array, names: tuple[str, ...], free: tuple[str, ...]) -> jax.Array:
    """[steps + 1, M'] float32: the times of the free modalities, from [steps + 1], [steps + 1, M] or the default."""
    times = default if times is None else jnp.asarray(times, jnp.float32)
    if times.ndim == 1:
        return jnp.broadcast_to(times[:, None], (len(times), len(free)))
    if times.ndim != 2 or times.shape[1] != len(names):
        raise ValueError(f"times has shape {times.shape}: must be [steps + 1] or [steps + 1, {len(names)}]")
    return times[:, jnp.array([names.index(name) for name in free])]


def _check_given(given: Mapping[str, jax.Array], noise: Mapping[str, jax.Array]) -> None:
    for name, value in given.items():
        if name not in noise:
            raise ValueError(f"given has {name!r}: must be among {tuple(noise)}")
        if value.shape != noise[name].shape:
            raise ValueError(f"given[{name!r}] has shape {value.shape}: must be {noise[name].shape}")
    if len(given) == len(noise):
        raise ValueError(f"given has all of {tuple(noise)}: at least one must be left to sample")


def sample(
    velocity_fn: VelocityFn,
    noise: Mapping[str, jax.Array],
    key: jax.Array | None = None,
    solver: str = "euler",
    steps: int = 50,
    times: jax.Array | None = None,
    given: Mapping[str, jax.Array] | None = None,
    given_time: float | jax.Array = 0.005,
    step_noise: Mapping[str, jax.Array] | None = None,
) -> Latents:
    """Draws clean latents, jointly or conditioned on some of them. Arithmetic is float32; works under jit.

    Args:
      velocity_fn: (x, t [B, M]) -> velocities by name; x is an OrderedDict with the keys of `noise` in their order,
        and column m of t belongs to its m-th key.
      noise: standard normal [B, H, W, C] per modality: the start, and what given modalities are mixed with. A plain
        dict is taken in the order that it has (one that went through jax.jit is sorted; an OrderedDict is not).
      key: for solvers that draw noise, unless `step_noise` is passed. One, or one per sample (typed keys [B]): then
        a sample does not depend on the batch it is drawn in.
      solver: a key of `SOLVERS`.
      steps: number of steps; ignored with `times`.
      times: own grid instead, from 1 to 0: [steps + 1], or [steps + 1, M] with one column per key of `noise`.
      given: clean latents of the modalities that condition. The network sees (1 - t) given + t noise at
        t = `given_time` throughout (MMGen section 3.4); 0 shows them clean. They are returned unchanged.
      given_time: see `given`.
      step_noise: for tests, noise of all steps but the last, [steps - 1, B, H, W, C] per modality.

    Returns:
      OrderedDict of x0 per modality, keys in the order of `noise`.

    Raises:
      ValueError: unknown solver, unknown or misshapen given modality, nothing to sample, missing key, bad times.
    """
    if solver not in SOLVERS:
        raise UsageError(f"solver={solver!r}: must be one of {', '.join(SOLVERS)}")
    chosen = SOLVERS[solver]
    given, names = dict(given or {}), tuple(noise)
    free = tuple(name for name in names if name not in given)
    _check_given(given, noise)
    if chosen.stochastic and key is None and step_noise is None:
        raise ValueError(f"solver={solver!r} draws noise: key must be a PRNG key")
    if times is None and steps < 1:
        raise ValueError(f"steps={steps}: must be at least 1")
    clean = {name: jnp.asarray(value, jnp.float32) for name, value in given.items()}
    start = {name: jnp.asarray(noise[name], jnp.float32) for name in names}
    held = {name: given_time * start[name] + (1 - given_time) * clean[name] for name in given}
    field = _field(velocity_fn, names, held, given_time)
    x = Latents((name, start[name]) for name in free)
    grid = _grid(times, chosen.times(steps), names, free)
    count = len(grid) - 1
    noise_at = _step_noise(x, key, step_noise, count)

    def body(carry: tuple[Latents, Any], at: tuple[jax.Array, ...]) -> tuple[tuple[Latents, Any], None]:
        index, now, then = at
        drawn = noise_at(index) if chosen.stochastic else None
        return chosen.step(field, *carry, Interval(now, then, index == count - 1, drawn)), None

    (x, _), _ = jax.lax.scan(body, (x, chosen.init(x)), (jnp.arange(count), grid[:-1], grid[1:]))
    return Latents((name, given[name] if name in given else x[name]) for name in names)
