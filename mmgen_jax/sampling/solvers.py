"""Solvers that lead from noise at t = 1 to data at t = 0 along any velocity (MMGen section 3.4, SiT section 2).

A velocity function is any callable `velocity_fn(x, t) -> v`, where x and v are dicts of [B, H, W, C] and column m of
t [B, M] is the time of the m-th key of x. It may be a network with its prompt bound, a guided network, or an exact
formula.

A `Solver` holds a function that makes one step. `sample` prepares the start, runs these steps over the grid of times in
one scan, and returns the end. A new solver is a step function in this file and a row in `SOLVERS`.
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
Field = Callable[[Latents, jax.Array], Latents]  # velocity of the M' generated modalities at their times [M']
NoiseAt = Callable[[jax.Array], Latents]

EM_LAST_TIME = 0.04


class Interval(NamedTuple):
    """The interval of time that one step crosses.

    Attributes:
      now: times [M'] at which the step begins, one for each generated modality.
      then: times [M'] at which the step ends.
      last: bool, whether this is the last step.
      noise: standard normal noise with the shapes of x for stochastic solvers, empty for the others.
    """

    now: jax.Array
    then: jax.Array
    last: jax.Array
    noise: Latents


Step = Callable[[Field, Latents, Any, Interval], tuple[Latents, Any]]


@dataclass(frozen=True)
class Solver:
    """A method that follows a velocity through time.

    Attributes:
      step: (field, x, memory, interval) -> (x, memory) at the end of the interval.
      init: x at t = 1 -> memory of the first step. The memory is what a multistep solver hands from step to step; for
        other solvers it is None.
      times: number of steps -> the solver's own grid of times [steps + 1], from 1 to 0.
      stochastic: whether steps draw noise.
      needs_score: whether steps need the score, which is known on the linear path only.
      evaluations: number of steps -> total number of evaluations of the velocity.
    """

    step: Step
    init: Callable[[Latents], Any]
    times: Callable[[int], jax.Array]
    stochastic: bool
    needs_score: bool
    evaluations: Callable[[int], int]


def uniform_times(steps: int) -> jax.Array:
    """Times [steps + 1] from 1 to 0 in equal steps, the grid of the ODE solvers."""
    return jnp.linspace(1.0, 0.0, steps + 1)


def last_step_times(steps: int) -> jax.Array:
    """Times [steps + 1] in equal steps from 1 to 0.04, then 0, as the score is unbounded at t = 0 (SiT, REPA)."""
    return jnp.append(jnp.linspace(1.0, EM_LAST_TIME, steps), 0.0)


def _advance(x: Latents, velocity: Latents, interval: Interval) -> Latents:
    """Returns x + dt v, where every modality has its own dt."""
    dt = interval.then - interval.now
    return Latents((name, x[name] + dt[m] * velocity[name]) for m, name in enumerate(x))


def euler(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes a first-order step: follows the velocity at the beginning of the step."""
    return _advance(x, field(x, interval.now), interval), memory


def heun(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes a second-order step: averages the velocities at both ends. The last step, to t = 0, is an Euler step."""
    first = field(x, interval.now)
    ahead = _advance(x, first, interval)

    def corrected() -> Latents:
        second = field(ahead, interval.then)
        return _advance(x, jax.tree.map(lambda a, b: (a + b) / 2, first, second), interval)

    return jax.lax.cond(interval.last, lambda: ahead, corrected), memory


def euler_maruyama(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes a step of the SDE with diffusion w = 2t: drift v - (w/2) score, noise sqrt(w |dt|) except in the last."""
    velocity, following = field(x, interval.now), Latents()
    for m, name in enumerate(x):
        t, dt = interval.now[m], interval.then[m] - interval.now[m]
        score = flow.score_from_velocity(flow.LINEAR, velocity[name], x[name], t)
        spread = jnp.where(interval.last, 0.0, jnp.sqrt(2 * t * jnp.abs(dt)))
        following[name] = x[name] + dt * (velocity[name] - t * score) + spread * interval.noise[name]
    return following, memory


def _nothing(x: Latents) -> None:
    """The memory of solvers that hand nothing from step to step."""


def _one_each(steps: int) -> int:
    """The number of evaluations of solvers that evaluate the velocity once in every step."""
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
    """Velocity of the generated modalities, while the given ones are held fixed at their own time."""

    def field(x: Latents, t: jax.Array) -> Latents:
        everything = Latents((name, held[name] if name in held else x[name]) for name in names)
        column = dict(zip(x, t, strict=True)) | dict.fromkeys(held, jnp.float32(given_time))
        batch = next(iter(x.values())).shape[0]
        time = jnp.broadcast_to(jnp.stack([column[name] for name in names]), (batch, len(names)))
        velocity = velocity_fn(everything, time)
        return Latents((name, velocity[name].astype(jnp.float32)) for name in x)

    return field


def _step_noise(x: Latents, key: jax.Array | None, step_noise: Mapping[str, jax.Array] | None, steps: int) -> NoiseAt:
    """Function that returns the noise of step i: the noise that was passed, or noise drawn from the key and i.

    Drawing it step by step keeps an array of all steps out of memory.
    """
    if step_noise is not None:
        # The last step adds no noise, so there is none to read; clipping keeps its index inside the array.
        return lambda i: Latents((name, jnp.asarray(step_noise[name])[jnp.minimum(i, steps - 2)]) for name in x)

    def draw(i: jax.Array, key: jax.Array, shapes: Mapping[str, tuple[int, ...]]) -> Latents:
        keys = jax.random.split(jax.random.fold_in(key, i), len(shapes))
        return Latents((name, jax.random.normal(keys[m], shape)) for m, (name, shape) in enumerate(shapes.items()))

    if key is None:
        return lambda _: Latents()  # a solver that draws nothing, see `sample`
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1:
        shapes = {name: value.shape[1:] for name, value in x.items()}
        return lambda i: jax.vmap(lambda one: draw(i, one, shapes))(key)
    return lambda i: draw(i, key, {name: value.shape for name, value in x.items()})


def _grid(times, default: jax.Array, names: tuple[str, ...], free: tuple[str, ...]) -> jax.Array:
    """Times [steps + 1, M'] of the generated modalities, float32, from [steps + 1], [steps + 1, M] or the default."""
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
    """Draws clean latents, jointly or conditioned on given ones. Computes in float32 and works under jit.

    Args:
      velocity_fn: (x, t [B, M]) -> velocities by name; x is an OrderedDict with the keys of `noise` in their order,
        and column m of t is the time of its m-th key.
      noise: standard normal noise [B, H, W, C] of each modality. It is the start of generated modalities, and given
        modalities are mixed with it. A plain dict is taken in its own order. Note that jax.jit sorts the keys of plain
        dicts, but not those of an OrderedDict.
      key: random key for solvers that draw noise, not needed with `step_noise`. With one key per sample (typed keys
        [B]), a sample does not depend on the batch it is drawn in.
      solver: a key of `SOLVERS`.
      steps: number of steps; ignored with `times`.
      times: grid of times from 1 to 0 to use instead of the solver's own: [steps + 1], or [steps + 1, M] with one
        column per key of `noise`.
      given: clean latents of the modalities to condition on. In every step the network sees (1 - t) given + t noise at
        t = `given_time` (MMGen section 3.4). They are returned unchanged.
      given_time: time in [0, 1] at which given modalities are held; at 0 the network sees them clean.
      step_noise: for tests, noise of all steps except the last, [steps - 1, B, H, W, C] of each modality.

    Returns:
      OrderedDict of x0 of each modality, with the keys in the order of `noise`.

    Raises:
      ValueError: the solver is unknown, a given modality is unknown or has a wrong shape, all modalities are given, the
        key is missing, or the times have a wrong shape.
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
        drawn = noise_at(index) if chosen.stochastic else Latents()
        return chosen.step(field, *carry, Interval(now, then, index == count - 1, drawn)), None

    (x, _), _ = jax.lax.scan(body, (x, chosen.init(x)), (jnp.arange(count), grid[:-1], grid[1:]))
    return Latents((name, given[name] if name in given else x[name]) for name in names)
