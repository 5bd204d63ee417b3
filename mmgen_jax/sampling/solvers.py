"""Solvers: from noise at t = 1 to data at t = 0 along any velocity function (MMGen section 3.4, SiT section 2).

A velocity function is any callable `velocity_fn(x, t) -> v` with x and v dicts of [B, H, W, C] and t [B, M] whose
column m is the time of the m-th key of x: a network with its class and task bound, a guided one, or an exact oracle.

A solver is `solver(field, x, times, noise_at) -> x`: `field(x, t)` is the velocity of the free modalities at the
times t [M'], `times` [steps + 1, M'] is the grid, one column per free modality, and `noise_at(i)` the standard normal
noise of step i. A solver runs one scan over the grid. A new one is a function here and a row in `SOLVERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import flow
from mmgen_jax.system.errors import UsageError

Latents = dict[str, jax.Array]
VelocityFn = Callable[[Latents, jax.Array], Latents]
Field = Callable[[Latents, jax.Array], Latents]
NoiseAt = Callable[[jax.Array], Latents]

EM_LAST_TIME = 0.04


def uniform_times(steps: int) -> jax.Array:
    """[steps + 1] times from 1 to 0 in equal steps: the grid of the ODE solvers."""
    return jnp.linspace(1.0, 0.0, steps + 1)


def last_step_times(steps: int) -> jax.Array:
    """[steps + 1] times: equal steps from 1 to 0.04, then 0, because the score is unbounded at t = 0 (SiT, REPA)."""
    return jnp.append(jnp.linspace(1.0, EM_LAST_TIME, steps), 0.0)


def _advance(x: Latents, velocity: Latents, dt: jax.Array) -> Latents:
    """x + dt v with a step of its own for every modality, dt [M']."""
    return {name: x[name] + dt[m] * velocity[name] for m, name in enumerate(x)}


def euler(field: Field, x: Latents, times: jax.Array, noise_at: NoiseAt) -> Latents:
    """First order: follow the velocity at the beginning of each step."""
    names = tuple(x)

    def step(x, grid):
        x = _ordered(x, names)
        now, then = grid
        return _advance(x, field(x, now), then - now), None

    return jax.lax.scan(step, x, (times[:-1], times[1:]))[0]


def heun(field: Field, x: Latents, times: jax.Array, noise_at: NoiseAt) -> Latents:
    """Second order: average the velocities at both ends of a step; the last step, to t = 0, is an Euler step."""
    names = tuple(x)

    def step(x, grid):
        x = _ordered(x, names)
        now, then, last = grid
        first = field(x, now)
        ahead = _advance(x, first, then - now)

        def corrected():
            second = field(ahead, then)
            return _advance(x, {name: (first[name] + second[name]) / 2 for name in names}, then - now)

        return jax.lax.cond(last, lambda: ahead, corrected), None

    last = jnp.arange(1, len(times)) == len(times) - 1
    return jax.lax.scan(step, x, (times[:-1], times[1:], last))[0]


def euler_maruyama(field: Field, x: Latents, times: jax.Array, noise_at: NoiseAt) -> Latents:
    """SDE with diffusion coefficient w = 2t: drift v - (w/2) score, noise sqrt(w |dt|), none on the last step."""
    names = tuple(x)

    def step(x, grid):
        x = _ordered(x, names)
        index, now, then, last = grid
        velocity, noise = field(x, now), noise_at(index)
        following = {}
        for m, name in enumerate(names):
            t, dt = now[m], then[m] - now[m]
            score = flow.score_from_velocity(flow.LINEAR, velocity[name], x[name], t)
            spread = jnp.where(last, 0.0, jnp.sqrt(2 * t * jnp.abs(dt)))
            following[name] = x[name] + dt * (velocity[name] - t * score) + spread * noise[name]
        return following, None

    index = jnp.arange(len(times) - 1)
    return jax.lax.scan(step, x, (index, times[:-1], times[1:], index == len(times) - 2))[0]


# name -> (solver, its own time grid, whether it draws noise)
SOLVERS: dict[str, tuple[Callable, Callable[[int], jax.Array], bool]] = {
    "euler": (euler, uniform_times, False),
    "heun": (heun, uniform_times, False),
    "euler_maruyama": (euler_maruyama, last_step_times, True),
}


SCORE_SOLVERS = ("euler_maruyama",)  # they need the score, which is known on the linear path


def _ordered(x: Mapping[str, jax.Array], names: tuple[str, ...]) -> Latents:
    """The dict in the order of `names`: JAX sorts the keys of every dict that passes through a scan or a jit."""
    return {name: x[name] for name in names}


def _field(velocity_fn: VelocityFn, names: tuple[str, ...], held: Latents, given_time) -> Field:
    """Velocity of the free modalities, with the given ones held fixed at their own time."""

    def field(x: Latents, t: jax.Array) -> Latents:
        free = tuple(x)
        everything = _ordered(x | held, names)
        column = dict(zip(free, t, strict=True)) | dict.fromkeys(held, jnp.float32(given_time))
        batch = next(iter(x.values())).shape[0]
        time = jnp.broadcast_to(jnp.stack([column[name] for name in names]), (batch, len(names)))
        velocity = velocity_fn(everything, time)
        return {name: velocity[name].astype(jnp.float32) for name in free}

    return field


def _step_noise(x: Latents, key: jax.Array | None, step_noise: Mapping[str, jax.Array] | None, steps: int) -> NoiseAt:
    """Noise of step i: the one handed in, or drawn from (key, step), so that nothing of [steps, ...] is stored."""
    if step_noise is not None:
        # The last step adds no noise; the index is clipped so that reading there stays inside.
        return lambda i: {name: jnp.asarray(step_noise[name])[jnp.minimum(i, steps - 2)] for name in x}

    def draw(i: jax.Array, key: jax.Array, shapes: Mapping[str, tuple[int, ...]]) -> Latents:
        keys = jax.random.split(jax.random.fold_in(key, i), len(shapes))
        return {name: jax.random.normal(keys[m], shape) for m, (name, shape) in enumerate(shapes.items())}

    if key is not None and jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1:
        shapes = {name: value.shape[1:] for name, value in x.items()}
        return lambda i: _ordered(jax.vmap(lambda one: draw(i, one, shapes))(key), tuple(x))
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
      velocity_fn: (x, t [B, M]) -> velocities; column m of t belongs to the m-th key of x, which has the keys of
        `noise` in their order (inside a jitted function that takes `noise` as an argument: sorted, since JAX sorts).
      noise: standard normal [B, H, W, C] per modality: the start, and what given modalities are mixed with.
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
      x0 per modality, keys in the order of `noise`.

    Raises:
      ValueError: unknown solver, unknown or misshapen given modality, nothing to sample, missing key, bad times.
    """
    if solver not in SOLVERS:
        raise UsageError(f"solver={solver!r}: must be one of {', '.join(SOLVERS)}")
    run, default_times, stochastic = SOLVERS[solver]
    given = dict(given or {})
    names = tuple(noise)
    free = tuple(name for name in names if name not in given)
    _check_given(given, noise)
    if stochastic and key is None and step_noise is None:
        raise ValueError(f"solver={solver!r} draws noise: key must be a PRNG key")
    if times is None and steps < 1:
        raise ValueError(f"steps={steps}: must be at least 1")
    x = {name: jnp.asarray(noise[name], jnp.float32) for name in names}
    held = {name: given_time * x[name] + (1 - given_time) * jnp.asarray(given[name], jnp.float32) for name in given}
    grid = _grid(times, default_times(steps), names, free)
    start = _ordered(x, free)
    noise_at = _step_noise(start, key, step_noise, len(grid) - 1)
    out = run(_field(velocity_fn, names, held, given_time), start, grid, noise_at)
    return _ordered(out | given, names)


# Evaluations of the network in `steps` steps of each solver.
EVALUATIONS: dict[str, Callable[[int], int]] = {
    "euler": lambda steps: steps,
    "heun": lambda steps: 2 * steps - 1,
    "euler_maruyama": lambda steps: steps,
}
