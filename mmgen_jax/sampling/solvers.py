"""Solvers that lead from noise at t = 1 to data at t = 0 along any velocity (MMGen section 3.4, SiT section 2).

A velocity function is any callable `velocity_fn(x, t) -> v`, where x and v are dicts of [B, H, W, C] and column m of
t [B, M] is the time of the m-th key of x. It may be a network with its prompt bound, a guided network, or an exact
formula. A flow map also takes the times r [B, M] at which a step ends, `velocity_fn(x, t, r) -> u`, and returns the
average velocity u = (x_t - x_r) / (t - r) of the exact flow from t straight to r.

A `Solver` holds a function that makes one step. `sample` prepares the start, runs these steps over the grid of times in
one scan, and returns the end. A new solver is a step function, here or in `multistep.py`, and a row in `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import arguments, corrections, multistep, randomness, roles
from mmgen_jax.sampling.fields import Field, Interval, Placed, VelocityFn
from mmgen_jax.sampling.grids import last_step_times, uniform_times
from mmgen_jax.sampling.roles import Time, Times
from mmgen_jax.system.errors import UsageError

NoiseAt = Callable[[jax.Array], Latents]

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
      needs_linear_path: whether the formulas of a step hold on the linear path only.
      evaluations: number of steps -> total number of evaluations of the velocity.
      averages: whether a step follows the average velocity, which a flow map tells.
    """

    step: Step
    init: Callable[[Latents], Any]
    times: Callable[[int], jax.Array]
    stochastic: bool
    needs_linear_path: bool
    evaluations: Callable[[int], int]
    averages: bool = False


def _advance(x: Latents, velocity: Latents, interval: Interval) -> Latents:
    """Returns x + dt v, where every modality has its own dt."""
    dt = interval.then - interval.now
    return Latents((name, x[name] + dt[m] * velocity[name]) for m, name in enumerate(x))


def euler(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes a first-order step: follows the velocity at the beginning of the step."""
    return _advance(x, field(x, interval.now), interval), memory


def flow_map(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes an exact step of any length: x_r = x_t - (t - r) u(x_t, t, r) with the average velocity u (MeanFlow)."""
    return _advance(x, field(x, interval.now, interval.then), interval), memory


def heun(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes a second-order step: averages the velocities at both ends. The last step, to t = 0, is an Euler step."""
    first = field(x, interval.now)
    ahead = _advance(x, first, interval)

    def corrected() -> Latents:
        second = field(ahead, interval.then)
        return _advance(x, jax.tree.map(lambda a, b: (a + b) / 2, first, second), interval)

    return jax.lax.cond(interval.last, lambda: ahead, corrected), memory


def midpoint(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes a second-order step: follows the velocity of its middle, which an Euler step of half its length reaches."""
    half = interval._replace(then=(interval.now + interval.then) / 2)
    middle = _advance(x, field(x, interval.now), half)
    return _advance(x, field(middle, half.then), interval), memory


def euler_maruyama(field: Field, x: Latents, memory: None, interval: Interval) -> tuple[Latents, None]:
    """Makes a step of the SDE with diffusion w = 2t: drift v - (w/2) score, noise sqrt(w |dt|) except to t = 0."""
    velocity, following = field(x, interval.now), Latents()
    for m, name in enumerate(x):
        t, dt = interval.now[m], interval.then[m] - interval.now[m]
        expected = flow.noise_from_velocity(flow.LINEAR, velocity[name], x[name], t)  # -t score, bounded at t = 0 too
        ends = interval.last | (interval.then[m] <= 0)
        spread = jnp.where(ends, 0.0, jnp.sqrt(2 * t * jnp.abs(dt)))
        following[name] = x[name] + dt * (velocity[name] + expected) + spread * interval.noise[name]
    return following, memory


def _nothing(x: Latents) -> None:
    """The memory of solvers that hand nothing from step to step."""


def _one_each(steps: int) -> int:
    """The number of evaluations of solvers that evaluate the velocity once in every step."""
    return steps


SOLVERS: dict[str, Solver] = {
    "euler": Solver(euler, _nothing, uniform_times, stochastic=False, needs_linear_path=False, evaluations=_one_each),
    "heun": Solver(
        heun,
        _nothing,
        uniform_times,
        stochastic=False,
        needs_linear_path=False,
        evaluations=lambda steps: 2 * steps - 1,
    ),
    "midpoint": Solver(
        midpoint,
        _nothing,
        uniform_times,
        stochastic=False,
        needs_linear_path=False,
        evaluations=lambda steps: 2 * steps,
    ),
    "dpm_solver_2m": Solver(
        multistep.dpm_solver_2m,
        multistep.nothing_before,
        uniform_times,
        stochastic=False,
        needs_linear_path=True,
        evaluations=_one_each,
    ),
    "unipc": Solver(
        multistep.unipc,
        multistep.nothing_known,
        uniform_times,
        stochastic=False,
        needs_linear_path=True,
        evaluations=_one_each,
    ),
    "euler_maruyama": Solver(
        euler_maruyama, _nothing, last_step_times, stochastic=True, needs_linear_path=True, evaluations=_one_each
    ),
    "flow_map": Solver(
        flow_map,
        _nothing,
        uniform_times,
        stochastic=False,
        needs_linear_path=False,
        evaluations=_one_each,
        averages=True,
    ),
}


def _placed(names: tuple[str, ...], held: Mapping[str, jax.Array], times: Mapping[str, Time]) -> Placed:
    """Function that adds what is held at its own time to x and t of the generated modalities."""

    def placed(x: Latents, t: jax.Array) -> tuple[Latents, jax.Array]:
        everything = Latents((name, held[name] if name in held else x[name]) for name in names)
        column = dict(zip(x, t, strict=True)) | {name: jnp.asarray(time, jnp.float32) for name, time in times.items()}
        batch = next(iter(x.values())).shape[0]
        return everything, jnp.stack([jnp.broadcast_to(column[name], (batch,)) for name in names], 1)

    return placed


def _step_noise(x: Latents, key: jax.Array | None, step_noise: Mapping[str, jax.Array] | None, axis: int) -> NoiseAt:
    """Function that returns the noise of step i: the noise that was passed, or noise drawn from the key and i.

    Drawing it step by step keeps an array of all steps out of memory.
    """
    if step_noise is not None:
        # The last step adds no noise, so there is none to read; the index is clipped to the array.
        return lambda i: Latents((m, jnp.asarray(step_noise[m])[jnp.minimum(i, len(step_noise[m]) - 1)]) for m in x)
    if key is None:
        return lambda _: Latents()  # a solver that draws nothing, see `sample`
    return lambda i: randomness.normal(randomness.fold(key, i), x, axis)


def _grid(times, default: jax.Array, names: tuple[str, ...], free: tuple[str, ...]) -> jax.Array:
    """Times [steps + 1, M'] of the generated modalities, float32, from [steps + 1], [steps + 1, M] or the default."""
    times = default if times is None else jnp.asarray(times, jnp.float32)
    if times.ndim == 1:
        return jnp.broadcast_to(times[:, None], (len(times), len(free)))
    if times.ndim != 2 or times.shape[1] != len(names):
        raise ValueError(f"times has shape {times.shape}: must be [steps + 1] or [steps + 1, {len(names)}]")
    return times[:, jnp.array([names.index(name) for name in free])]


def _check(
    noise: Mapping[str, jax.Array],
    key: jax.Array | None,
    steps: int,
    times: jax.Array | None,
    given_time: Times,
    corrector: int | None,
    particles: int,
) -> None:
    """Raises ValueError for arguments of `sample` that mean nothing, whatever else is asked."""
    if not noise:
        raise ValueError("noise is empty: must have at least one modality")
    for name, value in noise.items():
        if not np.ndim(value) or len(value) != len(next(iter(noise.values()))):
            raise ValueError(f"noise[{name!r}] has shape {np.shape(value)}: must have a row for each sample")
    if key is not None:
        arguments.random_key(key)
    if times is None:
        arguments.count("steps", steps, 1)
    else:
        arguments.grid("times", times)
    for name, time in given_time.items() if isinstance(given_time, Mapping) else [("", given_time)]:
        arguments.within(f"given_time[{name!r}]" if name else "given_time", time, 0, 1)
    if corrector is not None:
        arguments.count("corrector", corrector, 0)
    arguments.count("particles", particles, 1)


def sample(
    velocity_fn: VelocityFn,
    noise: Mapping[str, jax.Array],
    key: jax.Array | None = None,
    solver: str = "euler",
    steps: int = 50,
    times: jax.Array | None = None,
    given: Mapping[str, jax.Array] | None = None,
    given_time: Times = 0.005,
    step_noise: Mapping[str, jax.Array] | None = None,
    ignored: Sequence[str] = (),
    corrector: int | None = None,
    particles: int = 1,
) -> Latents:
    """Draws clean latents, jointly or conditioned on given ones. Computes in float32 and works under jit.

    Args:
      velocity_fn: (x, t [B, M]) -> velocities by name; x is an OrderedDict with the keys of `noise` in their order,
        and column m of t is the time of its m-th key. For "flow_map" (x, t, r [B, M]) -> average velocities from t to
        r; what is given or ignored has r = t.
      noise: standard normal noise [B, H, W, C] of each modality. It is the start of generated modalities, and given
        modalities are mixed with it. A plain dict is taken in its own order. Note that jax.jit sorts the keys of plain
        dicts, but not those of an OrderedDict.
      key: random key for solvers, correctors and particles, which draw noise. With one key per sample (typed keys
        [B]), a sample does not depend on the batch it is drawn in.
      solver: a key of `SOLVERS`.
      steps: number of steps; ignored with `times`.
      times: grid of times from 1 to 0 to use instead of the solver's own: [steps + 1], or [steps + 1, M] with one
        column per key of `noise`. A column may begin later, where `noise` has what the path has there (`starts`).
      given: clean latents of the modalities to condition on. In every step the network sees (1 - t) given + t noise at
        t = `given_time` (MMGen section 3.4). They are returned unchanged.
      given_time: time in [0, 1] at which given modalities are held, one for all or by name, a number or [B]; at 0 the
        network sees them clean.
      step_noise: for tests, noise of all steps except the last, [steps - 1, B, H, W, C] of each modality.
      ignored: modalities that are neither given nor wanted: the network sees their noise at t = 1 in every step, and
        they are not returned. A network that was trained to ignore draws from the distribution of the others alone.
      corrector: number of Langevin steps after each step except the last, on the linear path (see `corrections`);
        None means 0, or 1 with particles. Each of them evaluates the velocity once. A multistep solver makes steps of
        first order between them.
      particles: size of the population from which each sample is drawn, for a velocity of `composed`. Costs so many
        times as much, and at least one evaluation more in each step.

    Returns:
      OrderedDict of x0 of each modality that is not ignored, with the keys in the order of `noise`.

    Raises:
      UsageError: the solver is unknown.
      ValueError: a modality with a role is unknown, has two, or has a wrong shape; none is left to sample; the key is
        missing; a number or a time is out of its range, or times rise or have a wrong shape; or there are particles of
        a velocity that `composed` has not made.
    """
    if solver not in SOLVERS:
        raise UsageError(f"solver={solver!r}: must be one of {', '.join(SOLVERS)}")
    chosen = SOLVERS[solver]
    given, names = dict(given or {}), tuple(noise)
    _check(noise, key, steps, times, given_time, corrector, particles)
    roles.check(given, ignored, noise)
    corrected = bool(corrector) or particles > 1
    if key is None and ((chosen.stochastic and step_noise is None) or corrected):
        raise ValueError(f"solver={solver!r} with its corrections draws noise: key must be a PRNG key")
    start = Latents((m, jnp.asarray(noise[m], jnp.float32)) for m in names)
    held_at = roles.per_name(given_time, tuple(given)) | dict.fromkeys(ignored, 1.0)
    held = {m: roles.hold(given[m], start[m], held_at[m]) if m in given else start[m] for m in held_at}
    free = tuple(m for m in names if m not in held)
    correction = corrections.choose(velocity_fn, _placed(names, held, held_at), key, corrector, particles)
    x, state = correction.start(Latents((m, start[m]) for m in free))
    grid = _grid(times, chosen.times(steps), names, free)
    count = len(grid) - 1
    noise_at = _step_noise(x, key, step_noise, correction.axis)

    def body(carry: tuple[Latents, Any, Any], at: tuple[jax.Array, ...]) -> tuple[tuple[Latents, Any, Any], None]:
        index, earlier, before, now, then = at
        (x, memory, state), drawn = carry, noise_at(index) if chosen.stochastic else Latents()
        interval = Interval(index, earlier, before, now, then, index == count - 1, drawn)
        x, memory = chosen.step(correction.field, x, memory, interval)
        return correction.correct(x, memory, state, interval), None

    # Langevin steps leave the path: what a multistep solver knows of the step before says nothing of this one.
    earlier, before = (grid[np.maximum(np.arange(count) - (0 if corrected else k), 0)] for k in (2, 1))
    intervals = (jnp.arange(count), earlier, before, grid[:-1], grid[1:])
    (x, _, state), _ = jax.lax.scan(body, (x, chosen.init(x), state), intervals)
    x = correction.finish(x, state)
    return Latents((m, given[m] if m in given else x[m]) for m in names if m not in ignored)
