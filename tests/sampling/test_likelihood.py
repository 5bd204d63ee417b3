"""Likelihood and mutual information on joint Gaussians, whose densities are known, and of a model."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from mmgen_jax.api import MMGen
from mmgen_jax.sampling.information import gain
from mmgen_jax.sampling.inversion import times_from_data
from mmgen_jax.sampling.likelihood import log_density
from mmgen_jax.sampling.probing import over_rows
from mmgen_jax.system.errors import UsageError

# Two modalities of 2 x 2 positions and one channel: x, which is wanted, and y. Positions are correlated too.
SHAPE = (2, 2, 1)
rng = np.random.default_rng(1)
FACTOR = 0.4 * rng.normal(size=(8, 8)) + 0.7 * np.eye(8)
COVARIANCE, MEAN = FACTOR @ FACTOR.T, rng.normal(size=8)
WANTED, GIVEN = np.arange(4), np.arange(4, 8)


def conditional():
    """Matrix and covariance of x given y: its mean is MEAN_x + matrix (y - MEAN_y)."""
    matrix = COVARIANCE[np.ix_(WANTED, GIVEN)] @ np.linalg.inv(COVARIANCE[np.ix_(GIVEN, GIVEN)])
    return matrix, COVARIANCE[np.ix_(WANTED, WANTED)] - matrix @ COVARIANCE[np.ix_(GIVEN, WANTED)]


def velocity_of_gaussian(mean, covariance):
    """E[e - x0 | x_t] of N(mean, covariance), mean [B, 4], for one time of all samples or [B, 1]."""
    values, vectors = np.linalg.eigh(covariance)

    def velocity_fn(x, t):
        time = t[:, :1]
        flat = (x["x"].reshape(-1, 4) - (1 - time) * mean) @ vectors
        return OrderedDict(
            x=((time - (1 - time) * values) / ((1 - time) ** 2 * values + time**2) * flat @ vectors.T - mean).reshape(
                -1, *SHAPE
            )
        )

    return velocity_fn


def gaussian_log_density(x, mean, covariance):
    distance = ((x - mean) @ np.linalg.inv(covariance) * (x - mean)).sum(1)
    return -(distance + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2


def samples(count):
    """Samples [count, 8] whose mean and covariance are exactly those of the distribution."""
    white = np.random.default_rng(0).standard_normal((count, 8))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(white.T @ white / count)).T
    return MEAN + white @ FACTOR.T


def both(z):
    """Velocity functions of x given y and of x alone, and their log-densities, of samples z."""
    matrix, covariance = conditional()
    shifted = MEAN[WANTED] + (z[:, GIVEN] - MEAN[GIVEN]) @ matrix.T
    alone = np.broadcast_to(MEAN[WANTED], shifted.shape), COVARIANCE[np.ix_(WANTED, WANTED)]
    return [
        (velocity_of_gaussian(mean, cov), gaussian_log_density(z[:, WANTED], mean, cov))
        for mean, cov in ((shifted, covariance), alone)
    ]


def signs(count, seed):
    return OrderedDict(x=jax.random.rademacher(jax.random.key(seed), (count, *SHAPE), jnp.float32))


@pytest.mark.parametrize("split", [0, 1], ids=["x given y", "x alone"])
def test_negative_log_likelihood_is_within_one_percent(split):
    z = samples(256)
    velocity_fn, exact = both(z)[split]
    x0 = OrderedDict(x=z[:, WANTED].reshape(-1, *SHAPE))
    unit = [OrderedDict(x=jnp.broadcast_to(2 * row.reshape(SHAPE), (256, *SHAPE))) for row in jnp.eye(4)]  # sqrt(4) = 2
    run = jax.jit(lambda probe: log_density(velocity_fn, x0, probe, times_from_data(40)))
    trace = np.mean([run(probe) for probe in unit], axis=0)
    np.testing.assert_allclose(trace, exact, rtol=0.01, atol=0.02)
    entropy = np.linalg.slogdet(2 * np.pi * np.e * (conditional()[1], COVARIANCE[:4, :4])[split])[1] / 2
    assert -trace.mean() == pytest.approx(entropy, rel=0.01)
    # The random signs have the same mean: 64 draws for each of 256 samples.
    estimates = np.stack([run(signs(256, seed)) for seed in range(64)])
    standard_error = estimates.std(0, ddof=1).mean() / np.sqrt(64)
    assert np.abs(estimates.mean() - trace.mean()) < 4 * standard_error / np.sqrt(256) + 1e-3


def test_mutual_information_by_the_flow_is_within_one_percent():
    z = samples(256)
    (given, log_given), (alone, log_alone) = both(z)
    x0, probe = OrderedDict(x=z[:, WANTED].reshape(-1, *SHAPE)), signs(256, 0)
    estimates = [
        np.mean([log_density(f, x0, OrderedDict(x=2 * jnp.eye(4)[i].reshape(SHAPE) * jnp.ones_like(probe["x"])),
                             times_from_data(40)) for i in range(4)], axis=0)
        for f in (given, alone)
    ]  # fmt: skip
    exact = (np.linalg.slogdet(COVARIANCE[:4, :4])[1] - np.linalg.slogdet(conditional()[1])[1]) / 2
    assert np.mean(estimates[0] - estimates[1]) == pytest.approx(exact, rel=0.01)
    assert np.mean(log_given - log_alone) == pytest.approx(exact, rel=1e-6)


def test_mutual_information_by_squared_errors_is_within_one_percent():
    """With noise whose mean square is exactly one, little of the scatter is left."""
    count, draws = 256, 1200
    z = samples(count)
    (given, _), (alone, _) = both(z)
    x0 = OrderedDict(x=jnp.asarray(z[:, WANTED].reshape(-1, *SHAPE), jnp.float32))

    @jax.jit
    def total(key, low):
        noise_key, time_key = jax.random.split(key)
        half = jax.random.normal(noise_key, (count, *SHAPE))
        t = low + jax.random.uniform(time_key, (count,)) / draws
        both_signs = [gain(given, alone, x0, OrderedDict(x=sign * half), jnp.maximum(t, 1e-4))["x"] for sign in (1, -1)]
        return sum(both_signs) / 2

    keys = jax.random.split(jax.random.key(0), draws)
    maps = np.mean([total(keys[i], i / draws) for i in range(draws)], axis=0)
    exact = (np.linalg.slogdet(COVARIANCE[:4, :4])[1] - np.linalg.slogdet(conditional()[1])[1]) / 2
    assert maps.sum((1, 2)).mean() == pytest.approx(exact, rel=0.01)


def test_a_map_has_the_information_where_it_lies():
    """Positions that do not depend on each other, of which y tells the first one alone."""
    count, draws, rho = 512, 400, 0.9
    z = np.random.default_rng(2).standard_normal((count, 5))
    x = z[:, :4]
    y = rho * x[:, 0] + np.sqrt(1 - rho**2) * z[:, 4]
    mean = np.zeros((count, 4))
    mean[:, 0] = rho * y
    given = velocity_of_gaussian(mean, np.diag([1 - rho**2, 1, 1, 1]))
    alone = velocity_of_gaussian(0 * mean, np.eye(4))
    x0 = OrderedDict(x=jnp.asarray(x.reshape(-1, *SHAPE), jnp.float32))

    @jax.jit
    def one(key, low):
        noise_key, time_key = jax.random.split(key)
        t = jnp.maximum(low + jax.random.uniform(time_key, (count,)) / draws, 1e-4)
        return gain(given, alone, x0, OrderedDict(x=jax.random.normal(noise_key, (count, *SHAPE))), t)["x"]

    keys = jax.random.split(jax.random.key(0), draws)
    maps = np.mean([one(keys[i], i / draws) for i in range(draws)], axis=0).reshape(count, 4)
    variance = 1 - rho**2
    pointwise = (x[:, 0] ** 2 - (x[:, 0] - rho * y) ** 2 / variance - np.log(variance)) / 2
    assert maps[:, 0].mean() == pytest.approx(pointwise.mean(), rel=0.03)
    assert np.corrcoef(maps[:, 0], pointwise)[0, 1] > 0.9
    np.testing.assert_allclose(maps[:, 1:], 0, atol=1e-3)


# ---- a model ----


@pytest.fixture(scope="module")
def model():
    return MMGen(*tiny_model.build())


FAST = {"steps": 3, "draws": 2, "batch": 8}


def test_likelihood_of_any_split(model):
    values = tiny_model.values(3)
    for wanted, given in ((("depth",), ()), (("depth", "mask"), ("rgb",))):
        conditions = {m: values[m] for m in given} or None
        found = model.log_likelihood({m: values[m] for m in wanted}, conditions, "torus", **FAST)
        assert found.nats.shape == found.error.shape == (3,) and np.isfinite(found.nats).all()
        assert found.dimensions == 16 * sum(dict(model.architecture.model.modalities)[m] for m in wanted)
        np.testing.assert_allclose(found.bits_per_dimension, -found.nats / np.log(2) / found.dimensions)
        one = model.log_likelihood(
            {m: values[m][:1] for m in wanted}, {m: values[m][:1] for m in given}, "torus", **FAST | {"batch": 32}
        )
        np.testing.assert_allclose(one.nats, found.nats[:1], rtol=1e-4)


def test_information_of_a_model(model):
    values = tiny_model.values(3)
    wanted, given = {"depth": values["depth"], "mask": values["mask"]}, {"rgb": values["rgb"]}
    found = model.information(wanted, given, draws=4, batch=8)
    assert list(found.maps) == ["depth", "mask"] and found.maps["depth"].shape == (3, 4, 4)
    assert found.nats.shape == found.error.shape == (3,)
    picture = found.pictures()["depth"]
    assert picture.shape == (3, 4, 4, 3) and picture.dtype == np.uint8
    again = model.information({m: x[:2] for m, x in wanted.items()}, {"rgb": values["rgb"][:2]}, draws=4, batch=32)
    np.testing.assert_allclose(again.maps["mask"], found.maps["mask"][:2], rtol=1e-3, atol=1e-2)


def test_bad_requests(model):
    rgb, depth = tiny_model.values(3)["rgb"], tiny_model.values(3)["depth"]
    for ask, message in (
        (lambda: model.log_likelihood({}), r"values is \{\}; allowed: a dict"),
        (lambda: model.log_likelihood({"rgb": rgb}, {"rgb": rgb}), "rgb is in values and in given; allowed: one"),
        (lambda: model.log_likelihood({"rgb": rgb}, {"depth": depth[:2]}), "has 2 of depth; allowed: 1, or 3"),
        (lambda: model.log_likelihood({"rgb": rgb}, steps=0), "steps is 0; it must be an integer of at least 1"),
        (lambda: model.log_likelihood({"rgb": rgb}, given_time=2), "given_time is 2; it must be a number 0 to 1"),
        (lambda: model.log_likelihood({"rgb": rgb}, class_id=["torus"]), "class_id has 1 entries; allowed: one, or n"),
        (lambda: model.information({"rgb": rgb}, {}), r"given is \{\}; allowed: a dict"),
        (lambda: model.information({"rgb": rgb}, {"depth": depth}, draws=1), "draws is 1; it must be"),
        (lambda: model.information({"rgb": rgb}, {"depth": depth}, times=(1, 0)), "times is .*low < high"),
    ):
        with pytest.raises(UsageError, match=message):
            ask()


def test_rows_of_any_number_in_batches_of_one_shape(model):
    seen, done = [], []

    def program(part):
        seen.append(part["a"].shape)
        return {"b": part["a"] * 2}

    out = over_rows(program, {"a": np.arange(10)}, 8, model._sampler.layout, done.append)
    np.testing.assert_array_equal(out["b"], 2 * np.arange(10))
    assert seen == [(8,), (8,)] and done == [8, 2]
