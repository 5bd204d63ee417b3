"""Composition against posteriors that are known: a scalar Gaussian, and a mixture whose product is summed on a grid."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.sampling import composed, sample

# z ~ N(0, 1), and two measurements of it, y_i = z + n_i with n_i ~ N(0, 0.36).
NOISE_VARIANCE = 0.36
MEASURED = OrderedDict(first=0.7, second=1.1)
NAMES = ("z", *MEASURED)
PRECISION = 1 + 2 / NOISE_VARIANCE
EXACT_MEAN, EXACT_VARIANCE = sum(MEASURED.values()) / NOISE_VARIANCE / PRECISION, 1 / PRECISION  # 0.763, 0.1525


def joint_velocity(x, t, branches=3):
    """E[noise - x0 | x_t] of (z, y_1, y_2) or some of them; t is that of the first rows, again and again."""
    rows = [NAMES.index(m) for m in x]
    cov = jnp.asarray((np.ones((3, 3)) + NOISE_VARIANCE * np.diag([0, 1, 1]))[np.ix_(rows, rows)])
    flat = jnp.concatenate([value.reshape(-1, 1) for value in x.values()], 1)

    def gain(time):
        a, s = jnp.diag(1 - time), jnp.diag(time)
        return (s - cov @ a) @ jnp.linalg.inv(a @ cov @ a + s @ s)

    out = jnp.einsum("kij,bkj->bki", jax.vmap(gain)(t[:branches]), flat.reshape(-1, branches, len(rows)))
    return OrderedDict((m, out[..., i].reshape(x[m].shape)) for i, m in enumerate(x))


def measurements(batch):
    return OrderedDict((m, jnp.full((batch, 1, 1, 1), value)) for m, value in MEASURED.items())


def both(batch):
    return composed(joint_velocity, measurements(batch), {"first": 1.0, "second": 1.0}, given_time=0.0)


def draw(velocity_fn, batch, key=2, **options):
    noise = {"z": jax.random.normal(jax.random.key(1), (batch, 1, 1, 1))}
    out = jax.jit(lambda key: sample(velocity_fn, noise, key=key, **options))(jax.random.key(key))
    return np.asarray(out["z"]).ravel()


def test_following_the_composed_velocity_alone_draws_too_narrowly():
    assert 0.05 < draw(both(4096), 4096).var() < 0.08  # the true variance is 0.1525


def test_three_langevin_steps_are_within_five_percent():
    z = draw(both(40_000), 40_000, corrector=3)
    assert z.var() == pytest.approx(EXACT_VARIANCE, rel=0.05)
    assert z.mean() == pytest.approx(EXACT_MEAN, abs=0.03)


@pytest.mark.parametrize("solver", ["midpoint", "dpm_solver_2m", "unipc"])
def test_other_solvers_carry_particles_too(solver):
    z = draw(both(10_000), 10_000, particles=32, solver=solver)
    assert z.var() == pytest.approx(EXACT_VARIANCE, rel=0.05)
    assert z.mean() == pytest.approx(EXACT_MEAN, abs=0.02)


def test_particles_are_within_two_percent():
    z = draw(both(40_000), 40_000, particles=64)
    assert z.var() == pytest.approx(EXACT_VARIANCE, rel=0.02)
    assert z.mean() == pytest.approx(EXACT_MEAN, abs=0.01)


def test_weights_are_powers_of_the_likelihoods():
    """A weight w raises the likelihood of a measurement to the power w, for any sign; 0 leaves it out."""
    first, second = np.array([[0, 1], [0.6, 1.3], [1, -0.4], [0, 0]]).T
    each = 4000
    weights = {"second": jnp.tile(second, each), "first": jnp.tile(first, each)}  # one of each sample
    z = draw(composed(joint_velocity, measurements(4 * each), weights, given_time=0.0), 4 * each, particles=32)
    precision = 1 + (first + second) / NOISE_VARIANCE
    mean = (first * MEASURED["first"] + second * MEASURED["second"]) / NOISE_VARIANCE / precision
    # One step size serves four widths, which costs up to 6% (see `corrections`); a standard error is 2.2%.
    np.testing.assert_allclose(z.reshape(each, 4).var(0), 1 / precision, rtol=0.085)
    np.testing.assert_allclose(z.reshape(each, 4).mean(0), mean, atol=0.04)


def test_one_condition_of_weight_one_is_that_condition():
    """Then the composed velocity is the conditional one, and a larger weight is classifier-free guidance."""
    x, t = OrderedDict(z=jnp.linspace(-1, 1, 3)[:, None, None, None]), jnp.full((3, 1), 0.4)
    one = OrderedDict(first=measurements(3)["first"])
    at = OrderedDict(x, **one), jnp.concatenate([t, jnp.zeros((3, 1))], 1)
    alone = OrderedDict(x, first=jnp.zeros((3, 1, 1, 1))), jnp.concatenate([t, jnp.ones((3, 1))], 1)
    given, nothing = joint_velocity(*at)["z"], joint_velocity(*alone)["z"]
    for weight in (1.0, 2.5):
        velocity_fn = composed(lambda x, t: joint_velocity(x, t, 2), one, [weight], given_time=0.0)
        np.testing.assert_allclose(velocity_fn(x, t)["z"], nothing + weight * (given - nothing), atol=1e-5)


def test_each_sample_has_its_own_weight_and_each_condition_its_own_time():
    seen = []

    def spy(x, t):
        seen.append((x, t))
        return joint_velocity(x, t, len(t))

    x, t = OrderedDict(z=jnp.full((2, 1, 1, 1), 0.3)), jnp.full((2, 1), 0.4)
    weights = {"second": 1.0, "first": jnp.array([1.0, 0.0])}
    noise = {"first": jnp.full((2, 1, 1, 1), 5.0), "second": jnp.full((2, 1, 1, 1), 6.0)}
    times = {"first": 0.5, "second": jnp.array([0.0, 0.25])}
    out = composed(spy, measurements(2), weights, times, noise)(x, t)["z"].ravel()
    everything, at = seen[0]
    np.testing.assert_allclose(at[:, 0], 0.4)
    np.testing.assert_allclose(at[:, 1], [1, 0.5, 1, 1, 0.5, 1])  # branches of a sample are neighbours
    np.testing.assert_allclose(at[:, 2], [1, 1, 0, 1, 1, 0.25])
    np.testing.assert_allclose(everything["first"].ravel(), [5, 2.85, 5, 5, 2.85, 5], rtol=1e-6)
    np.testing.assert_allclose(everything["second"].ravel(), [6, 6, 1.1, 6, 6, 2.325], rtol=1e-6)
    nothing, _, second = joint_velocity(everything, at, 6)["z"].ravel()[3:]
    assert out[1] == pytest.approx(float(second), abs=1e-6) != float(nothing)  # its weight of the first is 0


def test_models_that_share_no_sample_compose():
    """Two models, one of (z, y_1) and one of (z, y_2): the second is bound to its condition and joins as a function."""

    def second_model(x, t):
        y = jnp.full_like(x["z"], MEASURED["second"])
        times = jnp.concatenate([t, jnp.zeros_like(t)], 1)
        return {"z": joint_velocity(OrderedDict(z=x["z"], second=y), times, 1)["z"]}

    batch = 5000
    first = measurements(batch)["first"]
    velocity_fn = composed(
        lambda x, t: joint_velocity(x, t, 2), {"a": second_model, "first": first}, {"first": 1.0, "a": 1.0}, 0.0
    )
    z = draw(velocity_fn, batch, particles=32)
    assert z.var() == pytest.approx(EXACT_VARIANCE, rel=0.05)
    assert z.mean() == pytest.approx(EXACT_MEAN, abs=0.02)


def normal(mean, variance):
    """E[noise - x0 | x_t] for x0 ~ N(mean, variance)."""

    def velocity_fn(x, t):
        time = t[:, :1, None, None]
        off = (x["z"] - (1 - time) * mean) / ((1 - time) ** 2 * variance + time**2)
        return {"z": (time - (1 - time) * variance) * off - mean}

    return velocity_fn


def told(mean, variance, y):
    """The same given a measurement y of x0."""
    precision = 1 / variance + 1 / NOISE_VARIANCE
    return normal((mean / variance + y / NOISE_VARIANCE) / precision, 1 / precision)


def test_what_another_model_says_is_compared_with_what_itself_says_without():
    """The other model has learned another density of z, N(-0.4, 0.5), so only v_0 + (v'_y - v'_0) is a likelihood."""
    batch, theirs = 5000, (-0.4, 0.5)
    first = {"first": told(0.0, 1.0, MEASURED["first"])}
    second = told(*theirs, MEASURED["second"])
    pair = first | {"second": second, "without": normal(*theirs)}
    z = draw(composed(normal(0.0, 1.0), pair, [1.0, 1.0, -1.0]), batch, particles=32)
    assert z.var() == pytest.approx(EXACT_VARIANCE, rel=0.05)
    assert z.mean() == pytest.approx(EXACT_MEAN, abs=0.02)
    z = draw(composed(normal(0.0, 1.0), first | {"second": second}, [1.0, 1.0]), batch, particles=32)
    assert z.var() < 0.9 * EXACT_VARIANCE and z.mean() < EXACT_MEAN - 0.1


def test_autoguidance_divides_by_the_weak_density():
    """p^w / p_weak^(w - 1), here of a model that is too wide, and a weak one that is wider."""
    z = draw(composed(normal(0.0, 1.6), {"model": normal(0.0, 1.3)}, [2.0]), 5000, particles=32)
    assert z.var() == pytest.approx(1 / (2 / 1.3 - 1 / 1.6), rel=0.05)


# ---- a mixture of four Gaussians in the plane, and two conditions that each prefer some of them ----

CENTRES = np.array([[-1.5, -1.5], [-1.5, 1.5], [1.5, -1.5], [1.5, 1.5]])
SCALE = 0.5
PRIOR = np.array([0.25, 0.25, 0.25, 0.25])
LEFT, UPPER = np.array([0.4, 0.4, 0.1, 0.1]), np.array([0.15, 0.35, 0.15, 0.35])


def mixture_velocity(shares):
    def velocity_fn(x, t):
        z, time = x["z"].reshape(-1, 1, 2), t[:, :1, None]
        variance = ((1 - time) * SCALE) ** 2 + time**2
        distance = z - (1 - time) * jnp.asarray(CENTRES)
        log_share = jnp.log(jnp.asarray(shares)) - jnp.square(distance).sum(-1) / (2 * variance[..., 0])
        share = jax.nn.softmax(log_share, axis=1)[..., None]
        residual = distance / variance
        velocity = (share * (time * residual - CENTRES - (1 - time) * SCALE**2 * residual)).sum(1)
        return {"z": velocity.reshape(x["z"].shape)}

    return velocity_fn


def product_shares(*powers):
    """Shares of the four quadrants in prod_j p_j^c_j, summed on a grid."""
    axis = np.linspace(-5, 5, 401)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    near = np.exp(-np.square(grid[:, :, None] - CENTRES).sum(-1) / (2 * SCALE**2))
    density = np.prod([(near @ shares) ** power for shares, power in powers], 0)
    quadrants = [density[np.ix_(a, b)].sum() for a in (axis < 0, axis > 0) for b in (axis < 0, axis > 0)]
    return np.array(quadrants) / np.sum(quadrants)


def test_particles_draw_from_the_product_of_mixtures():
    batch = 8000
    conditions = {"left": mixture_velocity(LEFT), "upper": mixture_velocity(UPPER)}
    velocity_fn = composed(mixture_velocity(PRIOR), conditions, {"left": 1.5, "upper": 1.0})
    noise = {"z": jax.random.normal(jax.random.key(0), (batch, 1, 1, 2))}
    run = jax.jit(lambda key: sample(velocity_fn, noise, key=key, particles=32, solver="heun", steps=30))
    z = np.asarray(run(jax.random.key(1))["z"]).reshape(-1, 2)
    quadrant = 2 * (z[:, 0] > 0) + (z[:, 1] > 0)
    shares = np.bincount(quadrant, minlength=4) / batch
    np.testing.assert_allclose(shares, product_shares((PRIOR, -1.5), (LEFT, 1.5), (UPPER, 1.0)), atol=0.02)
    for k, centre in enumerate(CENTRES):
        own = z[quadrant == k]
        standard_error = SCALE / np.sqrt(len(own))
        np.testing.assert_allclose(own.mean(0), centre, atol=4 * standard_error)
        np.testing.assert_allclose(own.std(0), SCALE, atol=4 * standard_error / np.sqrt(2))


# ---- promises about batches, and bad requests ----


@pytest.mark.parametrize("options", [{"corrector": 2}, {"particles": 4}])
def test_with_a_key_for_each_a_sample_does_not_depend_on_its_batch(options):
    keys, noise = jax.random.split(jax.random.key(3), 4), jax.random.normal(jax.random.key(4), (4, 1, 1, 1))
    out = {}
    for rows in (4, 2):
        run = jax.jit(lambda key, z: sample(both(len(z)), {"z": z}, key=key, steps=5, **options))
        out[rows] = run(keys[:rows], noise[:rows])["z"]
    np.testing.assert_allclose(out[4][:2], out[2], atol=1e-5)
    assert len(np.unique(out[4])) == 4


def test_errors():
    noise, key = {"z": jnp.zeros((2, 1, 1, 1))}, jax.random.key(0)
    with pytest.raises(ValueError, match="conditions is empty: must have at least one"):
        composed(joint_velocity, {}, {})
    with pytest.raises(ValueError, match=r"weights has \['first'\]: must have \['first', 'second'\]"):
        composed(joint_velocity, measurements(2), {"first": 1.0})
    with pytest.raises(ValueError, match="given_time has .*: lacks 'second'"):
        composed(joint_velocity, measurements(2), [1.0, 1.0], {"first": 0.1})
    with pytest.raises(ValueError, match="condition 'first' has shape .*: must have 2 rows and be no target"):
        sample(both(3), noise)
    with pytest.raises(ValueError, match="particles=8: the velocity must be one that `composed` has made"):
        sample(lambda x, t: x, noise, key=key, particles=8)
    with pytest.raises(ValueError, match="corrector=0: must be at least 1 with 2 particles, or None"):
        sample(both(2), noise, key=key, particles=2, corrector=0)
    with pytest.raises(ValueError, match="key must be"):
        sample(both(2), noise, corrector=1)
