"""A joint Gaussian over three modalities: its velocity, its flow map and its conditionals, all in closed form."""

from collections import OrderedDict

import jax.numpy as jnp
import numpy as np

DIMENSIONS = {"b": 2, "a": 1, "c": 1}  # not sorted: the order of columns must survive jit and scan
ORDER = tuple(DIMENSIONS)
INDEX = np.repeat(np.arange(3), list(DIMENSIONS.values()))
MEAN = np.array([0.5, -0.3, 0.2, 1.0])
FACTOR = np.array([[0.8, 0, 0, 0], [0.4, 0.5, 0, 0], [-0.3, 0.4, 0.4, 0], [0.5, -0.2, 0.3, 0.3]])
COVARIANCE = FACTOR @ FACTOR.T


def pack(x):
    return jnp.concatenate([x[name].reshape(len(x[name]), -1) for name in ORDER], 1)


def unpack(flat):
    parts = jnp.split(flat, np.cumsum(list(DIMENSIONS.values()))[:-1], 1)
    return OrderedDict((name, part[:, None, None]) for name, part in zip(ORDER, parts, strict=True))


def each(x, t):
    """Times [4] of the numbers in `pack`, of t [B, M] that is the same for the whole batch."""
    return jnp.stack([t[0, list(x).index(name)] for name in ORDER])[INDEX]


def oracle(x, t, r=None):
    """E[noise - x0 | x_t] of the Gaussian, or the average velocity to r; column m of t is the time of x's m-th key.

    One time per batch.
    """
    if r is not None:
        return average(x, t, r)
    time = each(x, t)
    a, centred = 1 - time, pack(x) - (1 - time) * MEAN
    inverse = jnp.linalg.inv(a[:, None] * COVARIANCE * a + jnp.diag(time**2))
    solved = centred @ inverse
    return unpack(time * solved - MEAN - (solved * a) @ COVARIANCE)


def normal(batch, seed=0):
    """Standard normal noise; in large batches its mean and covariance are exactly 0 and 1."""
    z = np.random.default_rng(seed).normal(size=(batch, len(MEAN)))
    if batch > 100:
        z = z - z.mean(0)
        z = z @ np.linalg.inv(np.linalg.cholesky(z.T @ z / batch)).T
    return unpack(jnp.asarray(z, jnp.float32))


def average(x, t, r):
    """(x_t - x_r) / (t - r) of the flow where all that moves has one t and one r, and the rest has t = r.

    Given what stays, x0 is a Gaussian N(m, C). Along an eigenvector of C with eigenvalue l, x_t - (1 - t) m has the
    variance (1 - t)^2 l + t^2, and the flow scales it by the ratio of its roots.
    """
    now, then, flat = each(x, t), each(x, r), pack(x)
    moves = now != then
    alpha, noise = jnp.where(moves, 0, 1 - now), jnp.where(moves, 1, now**2)
    gain = (COVARIANCE * alpha) @ jnp.linalg.inv(alpha[:, None] * COVARIANCE * alpha + jnp.diag(noise))
    mean = MEAN + (jnp.where(moves, 0, flat) - alpha * MEAN) @ gain.T
    covariance = COVARIANCE - gain @ (alpha[:, None] * COVARIANCE)
    apart = jnp.diag(10.0 + jnp.arange(len(MEAN)))  # distinct, as eigenvectors of equal values have no derivative
    values, vectors = jnp.linalg.eigh(jnp.where(moves[:, None] & moves, covariance, apart))
    start, end = (jnp.where(moves, time, 0).max() for time in (now, then))
    scale = jnp.sqrt(((1 - end) ** 2 * values + end**2) / ((1 - start) ** 2 * values + start**2))
    centred = jnp.where(moves, flat - (1 - start) * mean, 0)
    there = (1 - end) * mean + (centred @ vectors * scale) @ vectors.T
    return unpack(jnp.where(moves, (flat - there) / jnp.where(moves, now - then, 1), 0))


def conditional(values):
    """Mean and covariance of the rest, given clean values of some modalities, and which of the four numbers it is."""
    known = np.isin(INDEX, [ORDER.index(name) for name in values])
    free = ~known
    gain = COVARIANCE[np.ix_(free, known)] @ np.linalg.inv(COVARIANCE[np.ix_(known, known)])
    told = np.concatenate([values[name] for name in ORDER if name in values])
    mean = MEAN[free] + gain @ (told - MEAN[known])
    return mean, COVARIANCE[np.ix_(free, free)] - gain @ COVARIANCE[np.ix_(known, free)], free
