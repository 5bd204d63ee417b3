"""What is known stays known, and what is made fits it: against the exact conditional of jointly Gaussian pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import SOLVERS, sample
from mmgen_jax.sampling.inpainting import Inpainted, whole_cells

COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])
COUNT, VALUE = 4000, 1.5


def oracle(x, t):
    """E[noise - x0 | x_t] of two correlated pixels [B, 1, 2, 1]."""
    time = t[:, 0, None, None]
    cov = (1 - time) ** 2 * COVARIANCE + time**2 * jnp.eye(2)
    gain = (time * jnp.eye(2) - (1 - time) * COVARIANCE) @ jnp.linalg.inv(cov)
    return Latents(a=jnp.einsum("bij,bhjc->bhic", gain, x["a"]))


def drawn(velocity_fn=oracle, **options):
    noise = Latents(a=jax.random.normal(jax.random.key(0), (COUNT, 1, 2, 1)))
    known = Latents(a=jnp.broadcast_to(jnp.array([True, False]).reshape(1, 1, 2, 1), (COUNT, 1, 2, 1)))
    clean = Latents(a=jnp.full((COUNT, 1, 2, 1), VALUE).at[:, :, 1].set(-9.0))  # nobody looks at what is not known
    field = Inpainted(velocity_fn, clean, known)
    out = jax.jit(lambda z: field.finish(sample(field, z, key=jax.random.key(1), **options)))(noise)["a"]
    return np.asarray(out)[:, 0, :, 0]


@pytest.mark.parametrize("solver", [name for name, solver in SOLVERS.items() if not solver.averages])
def test_what_is_known_ends_as_it_is_given(solver):
    np.testing.assert_allclose(drawn(solver=solver, steps=8)[:, 0], VALUE, atol=1e-6)


def test_what_is_made_is_drawn_from_the_conditional():
    mean, variance = 0.8 * VALUE, 1 - 0.8**2
    off = []
    for corrector in (0, 4):
        made = drawn(solver="heun", steps=50, corrector=corrector)[:, 1]
        off.append(abs(made.mean() / mean - 1))
        assert made.var() == pytest.approx(variance, rel=0.15), corrector
    assert off[0] < 0.07 and off[1] < 0.03, off


def test_where_nothing_is_known_nothing_changes():
    noise = Latents(a=jax.random.normal(jax.random.key(0), (5, 1, 2, 1)))
    field = Inpainted(oracle, Latents(a=jnp.zeros((5, 1, 2, 1))), Latents(a=jnp.zeros((5, 1, 2, 1), bool)))
    for t in (0.0, 0.3, 1.0):
        times = jnp.full((5, 1), t)
        np.testing.assert_allclose(field(noise, times)["a"], oracle(noise, times)["a"], atol=1e-6)


def test_a_cell_is_known_if_all_its_pixels_are():
    known = np.ones((1, 4, 6), bool)
    known[0, 3, 0] = known[0, 0, 3] = False
    assert whole_cells(known, 2, 3)[0, :, :, 0].tolist() == [[True, False, True], [False, True, True]]
