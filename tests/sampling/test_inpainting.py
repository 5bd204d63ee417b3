"""What is known stays known, and what is made fits it: against the exact conditional of jointly Gaussian pixels."""

import dataclasses
import functools
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders.identity import Identity
from mmgen_jax.frozen.autoencoders.patches import depth_to_space
from mmgen_jax.sampling import SOLVERS, sample
from mmgen_jax.sampling.inpainting import Inpainted, Mixed, mixed_cells, whole_cells

COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])
COUNT, VALUE = 4000, 1.5


def oracle(x, t):
    """E[noise - x0 | x_t] of two correlated pixels [B, 1, 2, 1]."""
    time = t[:, 0, None, None]
    cov = (1 - time) ** 2 * COVARIANCE + time**2 * jnp.eye(2)
    gain = (time * jnp.eye(2) - (1 - time) * COVARIANCE) @ jnp.linalg.inv(cov)
    return Latents(a=jnp.einsum("bij,bhjc->bhic", gain, x["a"]))


def drawn(velocity_fn=oracle, deviation=MappingProxyType({}), **options):
    noise = Latents(a=jax.random.normal(jax.random.key(0), (COUNT, 1, 2, 1)))
    known = Latents(a=jnp.broadcast_to(jnp.array([True, False]).reshape(1, 1, 2, 1), (COUNT, 1, 2, 1)))
    clean = Latents(a=jnp.full((COUNT, 1, 2, 1), VALUE).at[:, :, 1].set(-9.0))  # nobody looks at what is not known
    field = Inpainted(velocity_fn, clean, known, deviation=deviation)
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


def test_the_deviation_of_the_data_counts():
    """Pixels of a deviation of 2: what is known leads better if that is told."""
    mean, off = 0.8 * VALUE, []
    for deviation in ({}, {"a": np.array([2.0])}):

        def velocity(x, t):
            time = t[:, 0, None, None]
            cov = (1 - time) ** 2 * 4 * COVARIANCE + time**2 * jnp.eye(2)
            gain = (time * jnp.eye(2) - (1 - time) * 4 * COVARIANCE) @ jnp.linalg.inv(cov)
            return Latents(a=jnp.einsum("bij,bhjc->bhic", gain, x["a"]))

        off.append(abs(drawn(velocity, deviation, solver="heun", steps=50)[:, 1].mean() / mean - 1))
    assert off[1] < off[0], off


@functools.partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("modalities", "factor"))
@dataclasses.dataclass(frozen=True)
class Pixels(Identity):
    """Pixels of any size, which need not be from -1 to 1."""

    def decode(self, latents):
        return Latents((m, depth_to_space(x, self.factor)) for m, x in latents.items())


def test_pixels_within_a_cell_are_as_cells_of_their_own():
    """Four correlated pixels, of which the first is known, are one cell or four: what is made is the same."""
    covariance = 0.8 ** np.abs(np.arange(4)[:, None] - np.arange(4))

    def velocity(x, t):
        time = t[:, 0, None, None]
        cov = (1 - time) ** 2 * covariance + time**2 * jnp.eye(4)
        gain = (time * jnp.eye(4) - (1 - time) * covariance) @ jnp.linalg.inv(cov)
        flat = jnp.einsum("bij,bj->bi", gain, x["depth"].reshape(-1, 4))
        return Latents(depth=flat.reshape(x["depth"].shape))

    noise = jax.random.normal(jax.random.key(0), (50, 2, 2, 1))
    known = jnp.zeros(noise.shape, bool).at[:, 0, 0].set(True)
    images = jnp.full(noise.shape, -9.0).at[:, 0, 0].set(VALUE)  # nobody looks at what is not known
    cells, one = jnp.ones((50, 1, 1, 1), bool), lambda z: Latents(depth=z.reshape(50, 1, 1, 4))
    mixed = Mixed(Pixels(("depth",), 2), Latents(depth=images), Latents(depth=known), Latents(depth=cells))
    within = Inpainted(velocity, one(images), Latents(depth=~cells), mixed)
    apart = Inpainted(velocity, Latents(depth=images), Latents(depth=known))
    for options in ({"solver": "heun"}, {"solver": "euler_maruyama"}):
        how = {"key": jax.random.key(1), "steps": 6, **options}
        made = within.finish(sample(within, one(noise), **how))["depth"].reshape(noise.shape)
        wanted = apart.finish(sample(apart, Latents(depth=noise), **how))["depth"]
        np.testing.assert_allclose(made[:, 0, 0], VALUE, atol=1e-6)
        if options["solver"] == "heun":  # the other one draws noise of another shape
            np.testing.assert_allclose(made, wanted, atol=1e-4)


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
    known[0, :2, :2] = False  # and if none is, nothing of it is known
    assert mixed_cells(known, 2, 3)[0, :, :, 0].tolist() == [[False, True, False], [True, False, False]]
