"""Partial noising on Gaussians, whose flow is known: from data come data, and from one point what the formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import sample, uniform_times
from mmgen_jax.sampling.starts import begun, cut

COVARIANCE = np.array([[1.2, 0.7], [0.7, 0.8]])
VARIANCE = 0.3


def joint(x, t):
    """E[noise - x0 | x_t] of two scalars a and b [B, 1, 1, 1] that are correlated, each at a time of its own [B, 2]."""
    alpha, sigma = (1 - t)[:, :, None] * jnp.eye(2), t[:, :, None] * jnp.eye(2)
    inverse = jnp.linalg.inv(alpha @ COVARIANCE @ alpha + sigma @ sigma)
    both = jnp.stack([x["a"].reshape(-1), x["b"].reshape(-1)], 1)
    v = jnp.einsum("bij,bj->bi", (sigma - COVARIANCE @ alpha) @ inverse, both)
    return Latents(a=v[:, 0].reshape(-1, 1, 1, 1), b=v[:, 1].reshape(-1, 1, 1, 1))


@pytest.mark.parametrize("names", [("a", "b"), ("a",)], ids="+".join)
def test_from_data_come_data_whatever_the_time(names):
    """The flow is linear, so its matrix is known from unit vectors, and with it the covariance of what comes out."""
    unit = np.eye(4).reshape(4, 4, 1, 1, 1)  # the start of a and of b, and the noise of each
    clean, noise = (Latents(zip("ab", jnp.asarray(unit[:, i : i + 2].swapaxes(0, 1)), strict=True)) for i in (0, 2))
    start = {m: clean[m] for m in names}

    @jax.jit
    def made(time):
        grid = cut(uniform_times(60)[:, None] * jnp.ones(2), ("a", "b"), start, time)
        return sample(joint, begun(flow.LINEAR, noise, start, time), solver="heun", times=grid)

    inputs = np.eye(4)
    inputs[:2, :2] = COVARIANCE
    for time in (0.2, 0.6, 0.95):
        out = made(time)
        matrix = np.stack([np.asarray(out[m]).reshape(4) for m in "ab"])
        np.testing.assert_allclose(matrix @ inputs @ matrix.T, COVARIANCE, rtol=0.02)


def alone(x, t):
    """E[noise - x0 | x_t] of a Gaussian of mean zero."""
    time = t[:, 0].reshape(-1, 1, 1, 1)
    return Latents(a=(time - (1 - time) * VARIANCE) / ((1 - time) ** 2 * VARIANCE + time**2) * x["a"])


@pytest.mark.parametrize("time", [0.3, 0.7, 0.999])
def test_from_one_point_comes_what_the_formulas_say(time):
    count, point = 20_000, 2.0
    start = {"a": jnp.full((count, 1, 1, 1), point)}
    noise = Latents(a=jax.random.normal(jax.random.key(0), (count, 1, 1, 1)))
    begin = begun(flow.LINEAR, noise, start, time)
    spread = (1 - time) ** 2 * VARIANCE + time**2
    grid = cut(uniform_times(100)[:, None], ("a",), start, time)
    flowed = np.asarray(sample(alone, begin, solver="heun", times=grid)["a"]).ravel()
    np.testing.assert_allclose(flowed, np.sqrt(VARIANCE / spread) * np.asarray(begin["a"]).ravel(), atol=2e-3)
    # The SDE with w = 2t forgets x_s by exp(-integral of t / variance) more, and stays on the same variances.
    drawn = np.asarray(sample(alone, begin, jax.random.key(1), "euler_maruyama", times=grid)["a"]).ravel()
    t = np.linspace(0, time, 10_001)
    gain = np.sqrt(VARIANCE / spread) * np.exp(-np.trapezoid(t / ((1 - t) ** 2 * VARIANCE + t**2), t))
    assert drawn.mean() == pytest.approx(gain * (1 - time) * point, abs=0.02)
    assert drawn.var() == pytest.approx(VARIANCE - gain**2 * (spread - time**2), rel=0.03)
    if time > 0.99:  # nothing is left of the start
        assert abs(flowed.mean()) < 0.02 and flowed.var() == pytest.approx(VARIANCE, rel=0.03)


def test_without_a_start_nothing_changes():
    noise, grid = Latents(a=jnp.ones((2, 1, 1, 1))), uniform_times(3)[:, None]
    assert cut(grid, ("a",), {}, 0.3) is grid
    np.testing.assert_array_equal(begun(flow.LINEAR, noise, {}, 0.3)["a"], noise["a"])
