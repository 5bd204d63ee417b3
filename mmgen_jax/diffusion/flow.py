"""Flow matching in one page: x_t = alpha(t) x0 + sigma(t) noise, and the network predicts v = d x_t / dt.

Time runs from 0 (data) to 1 (pure standard normal noise). The two paths are those of SiT (Ma et al. 2024, table 1);
MMGen (arXiv 2503.20644, section 3) trains on the linear path, and every modality has its own time.
The formulas act on one array [B, ...] with t [B].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

Schedule = Callable[[jax.Array], jax.Array]


@dataclass(frozen=True)
class Path:
    """A path from data (weight alpha) to noise (weight sigma) as t goes from 0 to 1, with both derivatives."""

    alpha: Schedule
    sigma: Schedule
    d_alpha: Schedule
    d_sigma: Schedule


LINEAR = Path(lambda t: 1 - t, lambda t: t, lambda t: -jnp.ones_like(t), lambda t: jnp.ones_like(t))
COSINE = Path(
    lambda t: jnp.cos(math.pi / 2 * t),
    lambda t: jnp.sin(math.pi / 2 * t),
    lambda t: -math.pi / 2 * jnp.sin(math.pi / 2 * t),
    lambda t: math.pi / 2 * jnp.cos(math.pi / 2 * t),
)
PATHS = {"linear": LINEAR, "cosine": COSINE}


def coefficients(path: Path, t: jax.Array, ndim: int) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns alpha, sigma and their derivatives at t [B], shaped to broadcast against an array with `ndim` axes."""
    t = t.reshape(t.shape + (1,) * (ndim - t.ndim))
    return path.alpha(t), path.sigma(t), path.d_alpha(t), path.d_sigma(t)


def interpolate(path: Path, x0: jax.Array, noise: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the noisy sample x_t and its velocity d x_t / dt, both with the shape of x0 [B, ...], for t [B]."""
    alpha, sigma, d_alpha, d_sigma = coefficients(path, t, x0.ndim)
    return alpha * x0 + sigma * noise, d_alpha * x0 + d_sigma * noise


def x0_from_velocity(path: Path, velocity: jax.Array, x_t: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the expected clean sample: solves x_t = alpha x0 + sigma eps, v = alpha' x0 + sigma' eps for x0."""
    alpha, sigma, d_alpha, d_sigma = coefficients(path, t, x_t.ndim)
    return (d_sigma * x_t - sigma * velocity) / (alpha * d_sigma - d_alpha * sigma)


def spread_of_normal(t: jax.Array, deviation: float | jax.Array = 1.0) -> jax.Array:
    """Returns the variance s^2 t^2 / (s^2 (1 - t)^2 + t^2) of x0 given x_t, on the linear path.

    Here x0 is normal with the standard deviation s.
    """
    variance = jnp.square(deviation)
    return variance * jnp.square(t) / (variance * jnp.square(1 - t) + jnp.square(t))


def noise_from_velocity(path: Path, velocity: jax.Array, x_t: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the expected noise: solves the same two equations for eps."""
    alpha, sigma, d_alpha, d_sigma = coefficients(path, t, x_t.ndim)
    return (alpha * velocity - d_alpha * x_t) / (alpha * d_sigma - d_alpha * sigma)


def score_from_velocity(path: Path, velocity: jax.Array, x_t: jax.Array, t: jax.Array) -> jax.Array:
    """Returns the score grad log p_t(x_t) = -E[eps | x_t] / sigma, for t in (0, 1] (SiT equation 9).

    It is unbounded at t = 0.
    """
    sigma = coefficients(path, t, x_t.ndim)[1]
    return -noise_from_velocity(path, velocity, x_t, t) / sigma
