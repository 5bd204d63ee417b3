"""Average velocities fulfil their identity exactly where they are known, and are learned from it."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from joint_gaussian import ORDER, average, normal, oracle, pack

from mmgen_jax.diffusion import flow, losses
from mmgen_jax.diffusion.average import target
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.training.objective import Example, Objective, example_loss

ROWS = 16


def times(values):
    """Times [ROWS, 3] of b, a and c, the same in each row."""
    return jnp.tile(jnp.asarray(values, jnp.float32), (ROWS, 1))


@pytest.mark.parametrize(
    "t, r",
    [
        ((1, 1, 1), (0, 0, 0)),
        ((1, 1, 1), (0.5, 0.5, 0.5)),
        ((0.7, 0.7, 0.7), (0.1, 0.1, 0.1)),
        ((0.4, 0.4, 0.4), (0, 0, 0)),
        ((0.9, 0.005, 0.9), (0.2, 0.005, 0.2)),  # a is given
        ((0.9, 0.0, 1.0), (0.2, 0.0, 1.0)),  # and c ignored
    ],
)
def test_the_exact_flow_map_fulfils_the_identity(t, r):
    x, t, r = normal(ROWS), times(t), times(r)
    found = target(lambda x, t: average(x, t, r), x, t, r, oracle(x, t))
    np.testing.assert_allclose(pack(found), pack(constant(found, x, t, r)), atol=2e-4)


def constant(found, x, t, r):
    """The exact average velocities of what moves, and what was found for the rest, which nothing follows."""
    exact, moves = average(x, t, r), t[0] != r[0]
    return Latents((m, exact[m] if moves[i] else found[m]) for i, m in enumerate(ORDER))


def along(x, t, r, steps=40):
    """Where the flow leads x while all times go straight from t to r, each on its own: classical Runge-Kutta."""
    span = (r - t) / steps

    def slope(x, s):
        v = oracle(x, t + s * span)
        return Latents((m, span[0, i] * v[m]) for i, m in enumerate(x))

    def moved(x, k, share):
        return Latents((m, x[m] + share * k[m]) for m in x)

    for n in range(steps):
        one = slope(x, n)
        two = slope(moved(x, one, 0.5), n + 0.5)
        three = slope(moved(x, two, 0.5), n + 0.5)
        four = slope(moved(x, three, 1.0), n + 1)
        x = Latents((m, x[m] + (one[m] + 2 * two[m] + 2 * three[m] + four[m]) / 6) for m in x)
    return x


def test_the_way_of_common_times_ends_where_the_closed_form_says():
    x, t, r = normal(ROWS), times([0.9] * 3), times([0.1] * 3)
    np.testing.assert_allclose(pack(along(x, t, r)), pack(x) - 0.8 * pack(average(x, t, r)), atol=1e-4)


def test_the_identity_holds_where_each_modality_has_its_own_times():
    x, t, r = normal(ROWS), times([0.9, 0.5, 0.6]), times([0.2, 0.4, 0.1])

    def numeric(x, t):
        end = along(x, t, r)
        return Latents((m, (x[m] - end[m]) / (t - r)[0, i]) for i, m in enumerate(x))

    found = jax.jit(lambda x: target(numeric, x, t, r, oracle(x, t)))(x)
    np.testing.assert_allclose(pack(found), pack(numeric(x, t)), atol=1e-3)


def test_evened_errors_have_the_gradient_of_the_logarithm():
    errors = jnp.array([[0.0, 1e-3], [0.1, 10.0]])
    found = jax.grad(lambda e: losses.evened(e).sum())(errors)
    np.testing.assert_allclose(found, jax.grad(lambda e: jnp.log(1 + e).sum())(errors), rtol=1e-6)


# ---- training: two modalities of one number each, jointly Gaussian, and a network that is linear in x ----

COVARIANCE = np.array([[0.8, 0.3], [0.3, 0.7]])
VALUES, VECTORS = np.linalg.eigh(COVARIANCE)


def features(t, r):
    """Products [B, 25] of Chebyshev polynomials of t and r, of which the matrix of the average velocity is made."""

    def of(time):
        x, found = 2 * time - 1, [jnp.ones_like(time), 2 * time - 1]
        while len(found) < 5:
            found.append(2 * x * found[-1] - found[-2])
        return jnp.stack(found, -1)

    return (of(t)[:, :, None] * of(r)[:, None, :]).reshape(len(t), -1)


def linear(params, x, t, prompt, r=None, forward=False):
    """A matrix of (t, r) times x; without r that of (t, t). The signature of `Architecture.apply`."""
    r = t if r is None else r
    matrix = (features(t[:, 0], r[:, 0]) @ params["matrix"]).reshape(-1, 2, 2)
    out = jnp.einsum("bij,bj->bi", matrix, jnp.concatenate([z.reshape(-1, 1) for z in x.values()], 1))
    return Latents((m, out[:, i].reshape(-1, 1, 1, 1)) for i, m in enumerate(x)), None


def exact(t, r):
    """The matrix of the average velocity: scaled along the eigenvectors of the covariance."""
    ratio = np.sqrt(((1 - r) ** 2 * VALUES + r**2) / ((1 - t) ** 2 * VALUES + t**2))
    return VECTORS @ np.diag((1 - ratio) / (t - r)) @ VECTORS.T


def test_a_linear_network_learns_the_exact_flow_map():
    """By the loss of training itself, from samples alone."""
    objective = Objective(flow.LINEAR, (), jax.random.uniform, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0)
    count, steps = 512, 8000
    optimizer = optax.chain(optax.scale_by_adam(b2=0.99), optax.scale_by_schedule(lambda n: -0.01 * (1 - n / steps)))

    def example(key):
        keys = jax.random.split(key, 4)
        x0 = jax.random.normal(keys[0], (count, 2)) @ np.linalg.cholesky(COVARIANCE).T
        noise, ends = jax.random.normal(keys[1], (count, 2)), jax.random.uniform(keys[2], (count, 2))
        t, r = (jnp.broadcast_to(pick(ends, 1, keepdims=True), (count, 2)) for pick in (jnp.max, jnp.min))
        x, v = ((z.T.reshape(2, count, 1, 1, 1)) for z in ((1 - t) * x0 + t * noise, noise - x0))
        both = (OrderedDict(zip("ab", z, strict=True)) for z in (x, v))
        weights = jnp.full((count, 2), 1 / count)
        none = jnp.zeros(count, int)
        return Example(*both, t, r, Prompt(none, none), weights, {}, None, jnp.zeros(count))

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda p: example_loss(linear, objective, p, example(key))[0])(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    params = {"matrix": jnp.zeros((25, 4))}
    keys = jax.random.split(jax.random.key(0), steps)
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((params, optimizer.init(params)))
    off, far = [], []
    for t, r in ((t, r) for t in np.linspace(0.2, 1, 5) for r in np.linspace(0, 0.8, 5) if r < t - 0.1):
        found, velocity = (
            (features(jnp.array([t]), jnp.array([end])) @ params["matrix"]).reshape(2, 2) for end in (r, t)
        )
        off.append(found - exact(t, r))
        far.append(velocity - exact(t, r))
    off, far = (np.sqrt(np.square(x).mean()) for x in (off, far))
    assert off < 0.02 and off < far / 10, (off, far)
