"""All roles that four modalities can have, on a joint Gaussian: samples have the conditional's mean and covariance."""

import itertools
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.sampling import sample

NAMES = ("b", "d", "a", "c")  # not sorted
MEAN = np.array([0.5, -0.3, 0.2, 1.0])
FACTOR = np.array([[0.8, 0, 0, 0], [0.4, 0.7, 0, 0], [-0.3, 0.4, 0.6, 0], [0.5, -0.2, 0.3, 0.6]])
COVARIANCE = FACTOR @ FACTOR.T
PATTERNS = [p for p in itertools.product(("given", "generate", "ignore"), repeat=4) if "generate" in p]
BATCH = 1024
VALUE = 0.7


def oracle(x, t):
    """E[noise - x0 | x_t] of the Gaussian; all samples have the same times."""
    assert tuple(x) == NAMES
    a, s = jnp.diag(1 - t[0]), jnp.diag(t[0])
    flat = jnp.concatenate([x[m].reshape(-1, 1) for m in NAMES], 1)
    solved = jnp.linalg.solve(a @ COVARIANCE @ a + s @ s, (flat - (1 - t[0]) * MEAN).T).T
    out = solved @ s - (MEAN + solved @ a @ COVARIANCE)
    return OrderedDict((m, out[:, i].reshape(-1, 1, 1, 1)) for i, m in enumerate(NAMES))


def conditional(free, given):
    """Mean and covariance of some modalities given the value 0.7 of others."""
    gain = COVARIANCE[np.ix_(free, given)] @ np.linalg.inv(COVARIANCE[np.ix_(given, given)])
    mean = MEAN[free] + gain @ (VALUE - MEAN[given])
    return mean, COVARIANCE[np.ix_(free, free)] - gain @ COVARIANCE[np.ix_(given, free)]


def test_there_are_65_patterns():
    assert len(PATTERNS) == 65


@pytest.mark.parametrize("pattern", PATTERNS, ids="-".join)
def test_samples_are_of_the_conditional_that_the_roles_name(pattern):
    rng = np.random.default_rng(0)
    free, given, ignored = ([i for i in range(4) if pattern[i] == role] for role in ("generate", "given", "ignore"))
    # The noise of what is generated has exactly the moments of the normal distribution, and so must the samples.
    white = rng.standard_normal((BATCH, 4))
    white -= white.mean(0)
    white = white @ np.linalg.inv(np.linalg.cholesky(white.T @ white / BATCH)).T
    noise = OrderedDict((m, jnp.asarray(white[:, i], jnp.float32).reshape(-1, 1, 1, 1)) for i, m in enumerate(NAMES))
    out = sample(
        oracle,
        noise,
        solver="dpm_solver_2m",
        steps=40,
        given={NAMES[i]: jnp.full((BATCH, 1, 1, 1), VALUE) for i in given},
        given_time=0.0,
        ignored=[NAMES[i] for i in ignored],
    )
    assert list(out) == [m for i, m in enumerate(NAMES) if i not in ignored]
    flat = np.concatenate([np.asarray(out[NAMES[i]]).reshape(-1, 1) for i in free], 1)
    mean, covariance = conditional(free, given)
    scale = np.sqrt(np.diag(covariance))
    assert np.abs((flat.mean(0) - mean) / scale).max() < 0.05
    moments = (flat - flat.mean(0)).T @ (flat - flat.mean(0)) / BATCH
    assert np.abs((moments - covariance) / np.outer(scale, scale)).max() < 0.05


def test_an_ignored_modality_is_its_own_noise_at_time_one():
    seen = []

    def spy(x, t):
        jax.debug.callback(lambda b, t: seen.append((np.array(b), np.array(t))), x["b"], t)
        return jax.tree.map(jnp.zeros_like, x)

    noise = OrderedDict((m, jnp.full((2, 1, 1, 1), i + 1.0)) for i, m in enumerate(NAMES))
    sample(spy, noise, steps=2, given={"d": noise["d"]}, given_time={"d": 0.25}, ignored=("b",))
    jax.effects_barrier()
    assert len(seen) == 2
    for value, t in seen:
        np.testing.assert_array_equal(value, noise["b"])
        np.testing.assert_allclose(t[:, :2], [[1, 0.25], [1, 0.25]])


def test_errors():
    noise = OrderedDict((m, jnp.zeros((2, 1, 1, 1))) for m in NAMES)
    with pytest.raises(ValueError, match=r"ignored has 'e': must be among \('b', 'd', 'a', 'c'\)"):
        sample(oracle, noise, ignored=["e"])
    with pytest.raises(ValueError, match=r"ignored has 'b': must be among \('d', 'a', 'c'\)"):
        sample(oracle, noise, given={"b": noise["b"]}, ignored=["b"])
    with pytest.raises(ValueError, match="are given or ignored: at least one must be left to sample"):
        sample(oracle, noise, given={"b": noise["b"]}, ignored=["d", "a", "c"])
    with pytest.raises(ValueError, match="given_time has .*: lacks 'b'"):
        sample(oracle, noise, given={"b": noise["b"]}, given_time={"d": 0.1})
