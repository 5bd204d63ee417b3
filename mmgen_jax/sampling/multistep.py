"""Steps of multistep solvers, which use the clean samples that were expected in steps before, on the linear path.

With the clean sample D = x - t v and the log-SNR l = log((1 - t) / t), a step from t to t' is

    x' = t'/t x + (1 - t'/t) (mean of D over the step, weighted by e^(l - l'))

exactly. D changes little, so it is taken for a polynomial in l through values that are known. The log-SNR is infinite
at t = 1 and t = 0: a step that touches an end, or that follows one from t = 1 or of length zero, is of lower order.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.fields import Field, Interval


def nothing_before(x: Latents) -> Latents:
    """The memory of `dpm_solver_2m` before the first step: it is not read."""
    return Latents((name, jnp.zeros_like(value)) for name, value in x.items())


def _log_snr(t: jax.Array) -> jax.Array:
    return jnp.log1p(-t) - jnp.log(t)


def _kept(start: jax.Array, end: jax.Array) -> jax.Array:
    """t'/t of steps from t to t'; 1 for t = 0, where nothing moves."""
    return jnp.where(start > 0, end / jnp.where(start > 0, start, 1), 1)


def _previous_weight(interval: Interval) -> jax.Array:
    """Weight [M'] of D's change in the step before, h / (2 h') for steps h and h' of log-SNR; 0 for first order."""
    before, now, then = interval.before, interval.now, interval.then
    inside = (before < 1) & (before > now) & (then > 0)
    before, now, then = (jnp.where(inside, t, safe) for t, safe in ((before, 0.75), (now, 0.5), (then, 0.25)))
    start, middle, end = (_log_snr(t) for t in (before, now, then))
    return jnp.where(inside, (end - middle) / (2 * (middle - start)), 0.0)


def _expected(field: Field, x: Latents, t: jax.Array) -> Latents:
    """D of each modality at x and t [M'], with one evaluation."""
    velocity = field(x, t)
    return Latents((m, flow.x0_from_velocity(flow.LINEAR, velocity[m], z, t[i])) for i, (m, z) in enumerate(x.items()))


def _predicted(x: Latents, clean: Latents, previous: Latents, interval: Interval) -> Latents:
    """x at the end of the interval, of D at its beginning and in the step before."""
    weight, kept, following = _previous_weight(interval), _kept(interval.now, interval.then), Latents()
    for m, name in enumerate(x):
        expected = clean[name] + weight[m] * (clean[name] - previous[name])
        following[name] = kept[m] * x[name] + (1 - kept[m]) * expected
    return following


def dpm_solver_2m(field: Field, x: Latents, memory: Latents, interval: Interval) -> tuple[Latents, Latents]:
    """Makes a second-order step with one evaluation, DPM-Solver++(2M) (Lu et al. 2022).

    The memory is D at the beginning of the step before, from which D in this one is extrapolated.
    """
    clean = _expected(field, x, interval.now)
    return _predicted(x, clean, memory, interval), clean


class Known(NamedTuple):
    """The memory of `unipc`: where the step before began, corrected, and D there and at the beginning of its own."""

    x: Latents
    clean: Latents
    previous: Latents


def nothing_known(x: Latents) -> Known:
    """The memory of `unipc` before the first step: it is not read."""
    return Known(*(nothing_before(x) for _ in Known._fields))


def unipc(field: Field, x: Latents, memory: Known, interval: Interval) -> tuple[Latents, Known]:
    """Makes a step of UniPC-2 with B(h) = e^h - 1 (Zhao et al. 2023), of third order with one evaluation.

    D at the beginning, where the step before has led, first corrects that step (UniC-2), and then predicts this one as
    `dpm_solver_2m` does (UniP-2). The corrected point is not evaluated again.
    """
    clean = _expected(field, x, interval.now)
    kept, (first, second), corrected = _kept(interval.before, interval.now), _corrector_weights(interval), Latents()
    for m, name in enumerate(x):
        start, older = memory.clean[name], memory.previous[name]
        mean = start + first[m] * (older - start) + second[m] * (clean[name] - start)
        corrected[name] = kept[m] * memory.x[name] + (1 - kept[m]) * mean
    there = interval.before > interval.now  # otherwise there is no step to correct
    x = Latents((name, jnp.where(there[m], corrected[name], x[name])) for m, name in enumerate(x))
    return _predicted(x, clean, memory.clean, interval), Known(x, clean, memory.clean)


def _corrector_weights(interval: Interval) -> tuple[jax.Array, jax.Array]:
    """Weights [M'] of D's change to the step before the one before, and to now, in the mean of D over the step before.

    Of second order they solve (Zhao et al., equation 10 with p = 2, in h = l(now) - l(before))

        r first + second = b_1,   r^2 first + second = b_2,   r = (l(earlier) - l(before)) / h,

    with b_1 = 1 / (1 - e^-h) - 1 / h and b_2 = 1 / (1 - e^-h) - 2 b_1 / h. Of first order they are 0 and 1/2.
    """
    earlier, before, now = interval.earlier, interval.before, interval.now
    inside = (earlier < 1) & (earlier > before) & (before > now) & (now > 0)
    times = (jnp.where(inside, t, safe) for t, safe in ((earlier, 0.75), (before, 0.5), (now, 0.25)))
    older, start, end = (_log_snr(t) for t in times)
    h = end - start
    ratio, whole = (older - start) / h, -1 / jnp.expm1(-h)
    b1 = whole - 1 / h
    b2 = whole - 2 * b1 / h
    first = (b1 - b2) / (ratio - ratio**2)
    return jnp.where(inside, first, 0.0), jnp.where(inside, b1 - ratio * first, 0.5)
