import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion import flow

PATHS = pytest.mark.parametrize("path", flow.PATHS.values(), ids=flow.PATHS)


@PATHS
def test_derivatives_agree_with_autodiff(path):
    t = jnp.linspace(0, 1, 11)
    np.testing.assert_allclose(path.d_alpha(t), jax.vmap(jax.grad(path.alpha))(t), atol=1e-6)
    np.testing.assert_allclose(path.d_sigma(t), jax.vmap(jax.grad(path.sigma))(t), atol=1e-6)


@PATHS
def test_ends_of_the_path(path):
    x0, noise = jax.random.normal(jax.random.key(0), (2, 2, 4, 4, 3))
    for t, expected in ((0.0, x0), (1.0, noise)):
        np.testing.assert_allclose(flow.interpolate(path, x0, noise, jnp.full(2, t))[0], expected, atol=1e-6)


def test_linear_target_is_noise_minus_data():
    x0, noise = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 2))
    t = jnp.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(flow.interpolate(flow.LINEAR, x0, noise, t)[1], noise - x0, atol=1e-6)


@PATHS
def test_data_noise_and_score_come_back_from_the_velocity(path):
    x0, noise = jax.random.normal(jax.random.key(1), (2, 5, 3, 2, 4))
    t = jnp.array([0.02, 0.3, 0.5, 0.8, 0.98])
    x_t, velocity = flow.interpolate(path, x0, noise, t)
    np.testing.assert_allclose(flow.x0_from_velocity(path, velocity, x_t, t), x0, atol=2e-5)
    np.testing.assert_allclose(flow.noise_from_velocity(path, velocity, x_t, t), noise, atol=2e-5)
    score = flow.score_from_velocity(path, velocity, x_t, t)
    np.testing.assert_allclose(score * path.sigma(t)[:, None, None, None], -noise, atol=2e-5)


@PATHS
def test_score_is_the_gradient_of_the_log_density_of_a_gaussian(path):
    mean, std, t = 0.7, 0.4, jnp.array([0.2, 0.6, 0.9])
    alpha, sigma = path.alpha(t), path.sigma(t)
    variance = (alpha * std) ** 2 + sigma**2
    x_t = jnp.array([0.5, -1.0, 2.0])
    x0 = mean + alpha * std**2 / variance * (x_t - alpha * mean)
    velocity = path.d_alpha(t) * x0 + path.d_sigma(t) * (x_t - alpha * x0) / sigma
    score = jax.vmap(jax.grad(lambda x, m, v: -((x - m) ** 2) / (2 * v)))(x_t, alpha * mean, variance)
    np.testing.assert_allclose(flow.score_from_velocity(path, velocity, x_t, t), score, rtol=1e-4)
