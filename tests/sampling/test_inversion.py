"""There and back along the flow of a Gaussian, to the order of the solvers; and the way between two noises."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from annotations import unchecked

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import sample, slerp
from mmgen_jax.sampling.inversion import followed, times_from_data

MEAN, VARIANCE = 0.5, 0.2
DATA = Latents(a=jnp.linspace(-1, 2, 8).reshape(8, 1, 1, 1))


def velocity(x, t):
    """E[noise - x0 | x_t] of N(MEAN, VARIANCE)."""
    gain = (t - (1 - t) * VARIANCE) / ((1 - t) ** 2 * VARIANCE + t**2)
    return Latents(a=gain * (x["a"] - (1 - t) * MEAN) - MEAN)


def field(x, t):
    return velocity(x, t[:, 0].reshape(-1, 1, 1, 1))


@jax.jit
def exact(x):
    return (x["a"] - MEAN) / np.sqrt(VARIANCE)


def inverted(steps):
    return jax.jit(lambda x: followed(velocity, x, times_from_data(steps)))(DATA)


def order(steps, errors):
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def test_the_noise_of_a_sample_is_found_to_second_order():
    steps = [16, 32, 64]
    errors = [np.abs(inverted(n)["a"] - exact(DATA)).max() for n in steps]
    assert order(steps, errors) > 1.8 and errors[-1] < 1e-3


@pytest.mark.parametrize("solver, expected", [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_a_sample_comes_back_to_the_order_of_the_solver(solver, expected):
    steps = [20, 40, 80]
    errors = [np.abs(sample(field, inverted(n), solver=solver, steps=n)["a"] - DATA["a"]).max() for n in steps]
    assert order(steps, errors) > expected - 0.25, errors
    assert errors[-1] < (0.05 if expected == 1 else 2e-3)


def test_the_way_between_two_noises():
    drawn = [jax.random.normal(jax.random.key(i), (1, 16, 16, 4)) for i in (0, 1)]
    first, second = ({"a": z / jnp.sqrt(jnp.square(z).mean())} for z in drawn)
    way = slerp(first, second, np.linspace(0, 1, 5))["a"]
    np.testing.assert_allclose(way[0], first["a"][0], atol=1e-5)
    np.testing.assert_allclose(way[-1], second["a"][0], atol=1e-5)
    np.testing.assert_allclose(np.square(way).mean((1, 2, 3)), 1, atol=1e-4)
    turns = [np.sum(way[i] * way[i + 1]) / np.linalg.norm(way[i]) / np.linalg.norm(way[i + 1]) for i in range(4)]
    np.testing.assert_allclose(np.arccos(turns), np.arccos(turns[0]), atol=1e-3)  # equal angles
    np.testing.assert_allclose(slerp(first, first, 0.3)["a"], first["a"], atol=1e-6)
    assert np.isfinite(slerp({"a": 0 * first["a"]}, second, 0.3)["a"]).all()


@pytest.mark.parametrize(
    "second, at, message",
    [
        ({"b": jnp.ones((1, 1, 1, 1))}, 0.5, "second has ('b',): must have ('a',) as the first"),
        ({"a": jnp.ones((1, 1, 1, 2))}, 0.5, "must be [1 or n, h, w, C], n equal"),
        ({"a": jnp.ones((2, 1, 1, 1))}, np.linspace(0, 1, 3), "must be [1 or n, h, w, C], n equal"),
        ({"a": jnp.ones((1, 1, 1, 1))}, 1.5, "at=1.5: must be from 0 to 1"),
        ({"a": jnp.ones((1, 1, 1, 1))}, "x", "at='x'"),
    ],
    ids=str,
)
def test_no_way(second, at, message):
    with unchecked(), pytest.raises(ValueError, match=re.escape(message)) as caught:
        slerp({"a": jnp.ones((1, 1, 1, 1))}, second, at)
    assert "\n" not in str(caught.value)
