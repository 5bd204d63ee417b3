"""Guides lead to the posterior: exactly for one measurement of jointly Gaussian pixels, and nearly for several."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import guides, sample
from mmgen_jax.sampling.training_free import DECODER, NETWORK, THROUGH, Guided, Images

COUNT = 4000
NAMES = ("a", "b")  # two pixels, each a modality of its own
PAIR = np.array([[1.0, 0.8], [0.8, 1.5]])


def oracle(mean, covariance):
    """E[noise - x0 | x_t] of modalities of one pixel each, at times t [B, M]."""
    mean, covariance = jnp.asarray(mean, jnp.float32), jnp.asarray(covariance, jnp.float32)

    def velocity(x, t):
        z = jnp.stack([value[:, 0, 0, 0] for value in x.values()], 1)
        seen = (1 - t)[:, :, None] * covariance * (1 - t)[:, None] + jnp.square(t)[:, :, None] * jnp.eye(len(mean))
        off = jnp.linalg.solve(seen, (z - (1 - t) * mean)[..., None])[..., 0]
        v = t * off - mean - jnp.einsum("mn,bn->bm", covariance, (1 - t) * off)
        return Latents((m, v[:, i, None, None, None]) for i, m in enumerate(x))

    return velocity


def measured(matrix, value, deviation):
    """Negative log-likelihood [B] of what was measured, matrix x0 = value, up to normal errors."""
    matrix, value = jnp.asarray(matrix, jnp.float32), jnp.asarray(value, jnp.float32)

    def loss(x):
        off = jnp.stack([z[:, 0, 0, 0] for z in x.values()], 1) @ matrix.T - value
        return jnp.square(off / deviation).sum(1) / 2

    return loss


def posterior(covariance, matrix, value, deviation):
    matrix = np.asarray(matrix)
    gain = covariance @ matrix.T @ np.linalg.inv(matrix @ covariance @ matrix.T + deviation**2 * np.eye(len(matrix)))
    return gain @ np.asarray(value), covariance - gain @ matrix @ covariance


def noise(names, seed=0, count=COUNT):
    drawn = jax.random.normal(jax.random.key(seed), (len(names), count, 1, 1, 1))
    return Latents(zip(names, drawn, strict=True))


@pytest.mark.parametrize("deviation", [0.01, 0.5])
@pytest.mark.parametrize("row", [[1.0, 0.0], [0.7, -1.3]], ids=str)
def test_the_velocity_of_one_measurement_is_that_of_the_posterior(row, deviation):
    field = Guided(oracle([0, 0], PAIR), measured([row], [1.5], deviation))
    exact = oracle(*posterior(PAIR, [row], [1.5], deviation))
    for times in ([0.9, 0.9], [0.5, 0.5], [0.3, 0.8], [0.1, 0.1]):
        x, t = noise(NAMES, count=50), jnp.broadcast_to(jnp.array(times), (50, 2))
        found, wanted = field(x, t), exact(x, t)
        for m in NAMES:
            np.testing.assert_allclose(found[m], wanted[m], rtol=2e-3, atol=2e-3)


def test_three_points_without_a_scale_are_one_measurement():
    """Of them, only the combination that no scale and no shift changes is known: exactly, as in the test above."""
    known, mean = np.array([0.1, 0.5, 0.6]), np.array([1.0, 4.0, 6.0])
    covariance = 0.3 * np.exp(-np.abs(np.arange(3)[:, None] - np.arange(3)) / 2)
    row = np.cross(known, np.ones(3))
    row = row[None] / np.linalg.norm(row)
    gain = covariance @ row.T / (row @ covariance @ row.T + 0.1**2)
    exact = oracle(mean - gain @ row @ mean, covariance - gain @ row @ covariance)
    guide = guides.unscaled("depth", [[i, 0, 7 * value - 3] for i, value in enumerate(known)], 0.1)

    def loss(z):
        return guide(Images(("depth",), lambda _: 2 * jnp.concatenate(list(z.values()), 2) - 1))

    names = ("a", "b", "c")
    field = Guided(oracle(mean, covariance), loss)
    for time in (0.7, 0.4, 0.1):
        t = jnp.full((50, 3), time)
        x = Latents((m, z * time + (1 - time) * mean[i]) for i, (m, z) in enumerate(noise(names, count=50).items()))
        found, wanted = field(x, t), exact(x, t)
        for m in names:
            np.testing.assert_allclose(found[m], wanted[m], rtol=2e-3, atol=2e-3)


def drawn(covariance, matrix, value, deviation, through, **options):
    """Samples [COUNT, M], and the mean and covariance that they should have."""
    z = noise([f"m{i}" for i in range(len(covariance))])
    field = Guided(oracle(np.zeros(len(covariance)), covariance), measured(matrix, value, deviation), 1.0, through)
    out = jax.jit(lambda z: sample(field, z, key=jax.random.key(1), solver="heun", **options))(z)
    return np.stack([x[:, 0, 0, 0] for x in out.values()], 1), posterior(covariance, matrix, value, deviation)


def test_samples_of_one_measurement_have_the_mean_and_the_variance_of_the_posterior():
    made, (mean, covariance) = drawn(PAIR, [[1.0, 0.0]], [1.5], 0.3, NETWORK, steps=50)
    np.testing.assert_allclose(made.mean(0), mean, rtol=0.02)
    np.testing.assert_allclose(made.var(0), np.diag(covariance), rtol=0.06)


def test_of_several_measurements_langevin_steps_mend_what_is_left():
    place = np.arange(6)
    covariance = 0.7 * np.exp(-np.abs(place[:, None] - place) / 3)
    matrix, off = np.eye(6)[[0, 2, 3]], {}
    for through in THROUGH:
        for corrector in (0, 4):
            made, (mean, _) = drawn(covariance, matrix, [1.0, -0.5, 0.3], 0.1, through, steps=25, corrector=corrector)
            off[through, corrector] = np.linalg.norm(made.mean(0) - mean) / np.linalg.norm(mean)
    assert off[NETWORK, 0] < off[DECODER, 0] < 0.35 and off[NETWORK, 0] < 0.2, off
    assert off[NETWORK, 4] < off[NETWORK, 0] / 2 and off[DECODER, 4] < off[DECODER, 0] / 2, off


@pytest.mark.parametrize("through", THROUGH)
def test_ends_of_time_and_losses_that_lead_nowhere(through):
    velocity, x = oracle([0, 0], PAIR), noise(NAMES, count=5)
    fits = {"zero": lambda z: 0 * z["a"][:, 0, 0, 0], "below zero": lambda z: z["a"][:, 0, 0, 0] - 100}
    for time in (0.0, 0.3, 1.0):
        t = jnp.full((5, 2), time)
        plain = velocity(x, t)
        for loss in fits.values():
            np.testing.assert_allclose(Guided(velocity, loss, 1.0, through)(x, t)["b"], plain["b"], atol=1e-6)
        led = Guided(velocity, measured([[1.0, 0.0]], [1.5], 0.1), 1.0, through)(x, t)
        assert all(np.isfinite(v).all() for v in led.values())
        unweighted = Guided(velocity, measured([[1.0, 0.0]], [1.5], 0.1), 0.0, through)(x, t)
        np.testing.assert_allclose(unweighted["a"], plain["a"], atol=1e-6)
    nowhere = Guided(velocity, lambda z: jnp.log(-jnp.square(z["a"][:, 0, 0, 0])), 1.0, through)(x, t)
    assert not np.isfinite(nowhere["a"]).all()
