"""Strengths, guidance and order against exact velocities of jointly Gaussian modalities."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import SOLVERS, sample
from mmgen_jax.sampling.branches import Branches, Member
from mmgen_jax.sampling.composition import alone
from mmgen_jax.sampling.grids import in_order
from mmgen_jax.sampling.guidance import leaned

NAMES = ("a", "b", "c")
COVARIANCE = np.array([[1.0, 0.6, 0.3], [0.6, 0.8, 0.2], [0.3, 0.2, 0.5]])
GIVEN = {"b": 0.9, "c": -0.4}


def oracle(x, t, _=None):
    """E[noise - x0 | x_t], exact at any times [R, M]."""
    cov = jnp.asarray(COVARIANCE[np.ix_([NAMES.index(m) for m in x], [NAMES.index(m) for m in x])])
    flat = jnp.concatenate([value.reshape(-1, 1) for value in x.values()], 1)

    def one(row, time):
        a, s = jnp.diag(1 - time), jnp.diag(time)
        return (s - cov @ a) @ jnp.linalg.solve(a @ cov @ a + s @ s, row)

    out = jax.vmap(one)(flat, t)
    return OrderedDict((m, out[:, i].reshape(x[m].shape)) for i, m in enumerate(x))


def branches(arrangement, members, given=GIVEN, batch=2):
    present, terms = arrangement(list(given), members)
    noise = Latents((m, jax.random.normal(jax.random.key(i), (batch, 1, 1, 1))) for i, m in enumerate(NAMES[1:]))
    absent = {m: np.zeros(len(terms) + 1, bool) for m in noise if m not in given}
    clean = Latents((m, jnp.full((batch, 1, 1, 1), v)) for m, v in given.items())
    return Branches(oracle, present | absent, terms, noise, clean, dict.fromkeys(given, 0.0))


def direct(x, t, given):
    """Exact velocity of a when `given` are clean and the others unknown."""
    names = ["a", *given]
    everything = OrderedDict(a=x) | OrderedDict((m, jnp.full_like(x, GIVEN[m])) for m in given)
    times = jnp.stack([jnp.full(len(x), t), *[jnp.zeros(len(x))] * len(given)], 1)
    rows = [NAMES.index(m) for m in names]
    saved, full = COVARIANCE[np.ix_(rows, rows)], jnp.concatenate([v.reshape(-1, 1) for v in everything.values()], 1)
    a, s = np.diag(1 - np.asarray(times[0])), np.diag(np.asarray(times[0]))
    gain = (s - saved @ a) @ np.linalg.inv(a @ saved @ a + s @ s)
    return (np.asarray(full) @ gain.T)[:, 0]


X = Latents(a=jnp.array([0.3, -1.2]).reshape(2, 1, 1, 1))


@pytest.mark.parametrize("t", [0.2, 0.7])
@pytest.mark.parametrize(
    "members", [{}, {"b": 1.0}, {"b": 0.0}, {"b": 0.6}, {"b": 1.7, "c": -0.5}, {"c": 0.0}], ids=str
)
def test_strengths_lean_on_each_condition(members, t):
    field = branches(leaned, {m: Member(w) for m, w in members.items()})
    both = direct(X["a"], t, ["b", "c"])
    expected = both + sum(
        (w - 1) * (both - direct(X["a"], t, [n for n in GIVEN if n != m])) for m, w in members.items()
    )
    np.testing.assert_allclose(field(X, jnp.full((2, 1), t))["a"].ravel(), expected, atol=1e-5)


@pytest.mark.parametrize("t", [0.2, 0.7])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.0, 0.0), (0.6, 1.3), (-0.4, 1.0)])
def test_a_composition_sums_what_each_condition_says_alone(weights, t):
    field = branches(alone, {m: Member(w) for m, w in zip(GIVEN, weights, strict=True)})
    without = direct(X["a"], t, [])
    expected = without + sum(w * (direct(X["a"], t, [m]) - without) for m, w in zip(GIVEN, weights, strict=True))
    np.testing.assert_allclose(field(X, jnp.full((2, 1), t))["a"].ravel(), expected, atol=1e-5)


def test_what_is_neither_given_nor_wanted_is_ignored():
    field = branches(leaned, {}, given={"b": 0.9})
    np.testing.assert_allclose(field(X, jnp.full((2, 1), 0.4))["a"].ravel(), direct(X["a"], 0.4, ["b"]), atol=1e-5)


@pytest.mark.parametrize("arrangement, neutral", [(leaned, 1.0), (alone, 1.0)])
def test_outside_its_interval_a_condition_has_weight_one(arrangement, neutral):
    dialled = branches(arrangement, {"b": Member(3.0, (0.3, 0.6)), "c": Member(1.0)})
    plain = branches(arrangement, {"b": Member(neutral), "c": Member(1.0)})
    inside = branches(arrangement, {"b": Member(3.0), "c": Member(1.0)})
    for t, same in ((0.1, plain), (0.5, inside), (0.8, plain)):
        time = jnp.full((2, 1), jnp.float32(t))
        np.testing.assert_allclose(dialled(X, time)["a"], same(X, time)["a"], atol=1e-6)


def test_branches_that_do_not_count_are_not_computed():
    rows = []

    def spy(x, t, present):
        jax.debug.callback(lambda n: rows.append(int(n)), len(t))
        return x

    present, terms = leaned(["class"], {"class": Member(2.0, (0.3, 0.6))})
    field = Branches(spy, present, terms, Latents(), Latents(), {})
    for t in (0.1, 0.5, 0.9):
        field(X, jnp.full((2, 1), t))
    jax.effects_barrier()
    assert rows == [2, 4, 2]


def test_the_rows_of_a_sample_are_neighbours_and_know_what_is_present():
    seen = {}

    def spy(x, t, present):
        seen.update(present, x=x, t=t)
        return x

    field = branches(leaned, {"b": Member(0.5)})
    Branches(spy, field.present, field.terms, field.noise, field.held, field.times)(X, jnp.full((2, 1), 0.5))
    np.testing.assert_array_equal(seen["b"], [True, False, True, False])
    np.testing.assert_array_equal(seen["c"], [True] * 4)
    np.testing.assert_allclose(seen["t"][:, 1], [0, 1, 0, 1])
    np.testing.assert_allclose(seen["x"]["b"].ravel()[:2], [GIVEN["b"], field.noise["b"].ravel()[0]])


@pytest.mark.parametrize("solver", ["euler", "heun", "euler_maruyama"])
@pytest.mark.parametrize("order", [(0.0, 0.0, 0.0), (0.0, 0.3, 0.0), (0.0, 1.0, 0.25)])
def test_any_order_draws_from_the_same_joint_density(solver, order):
    """Whatever runs ahead, the modalities have the covariance of the data in the end."""
    times, batch = np.asarray(in_order(SOLVERS[solver].times(150), order)), 20_000
    assert times.shape == (151, 3) and (np.diff(times, axis=0) <= 0).all()
    np.testing.assert_array_equal(times[[0, -1]], [[1, 1, 1], [0, 0, 0]])
    noise = Latents((m, jax.random.normal(jax.random.key(i), (batch, 1, 1, 1))) for i, m in enumerate(NAMES))

    def velocity(x, t):
        """All rows have the same times."""
        cov, time = jnp.asarray(COVARIANCE), t[0]
        a, s = jnp.diag(1 - time), jnp.diag(time)
        # At t = 0 the noise is unknown; any regular limit will do, as nothing moves there.
        gain = (s - cov @ a) @ jnp.linalg.inv(a @ cov @ a + s @ s)
        flat = jnp.concatenate([value.reshape(-1, 1) for value in x.values()], 1) @ gain.T
        return OrderedDict((m, flat[:, i].reshape(x[m].shape)) for i, m in enumerate(x))

    out = jax.jit(lambda key: sample(velocity, noise, key, solver, times=jnp.asarray(times)))(jax.random.key(5))
    flat = np.concatenate([np.asarray(v).reshape(-1, 1) for v in out.values()], 1)
    scale = np.sqrt(np.diag(COVARIANCE))
    assert np.abs((flat.T @ flat / batch - COVARIANCE) / np.outer(scale, scale)).max() < 0.05
    assert np.abs(flat.mean(0) / scale).max() < 0.03
