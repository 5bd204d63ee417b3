"""Products with kernels on CPUs against plain ones, in values and in both modes of differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.parallel.placement import Placement, einsum, einsum_for, single, spread, wide_einsum, wide_spread

EQUATIONS = {"btd,de->bte": (2, 5, 8), "bd,de->be": (2, 8)}


@pytest.mark.parametrize("equation", EQUATIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2e-2)])
def test_products_and_their_gradients_are_those_of_plain_ones(equation, dtype, tolerance):
    x = jax.random.normal(jax.random.key(0), EQUATIONS[equation]).astype(dtype)
    kernel = jax.random.normal(jax.random.key(1), (8, 6))
    plain, plain_back = jax.vjp(lambda x, k: einsum(equation, x, k), x, kernel)
    wide, wide_back = jax.vjp(lambda x, k: wide_einsum(equation, x, k), x, kernel)
    assert wide.dtype == plain.dtype
    np.testing.assert_allclose(*(np.float32(y) for y in (wide, plain)), rtol=tolerance, atol=tolerance)
    grad = jax.random.normal(jax.random.key(2), plain.shape).astype(dtype)
    for one, other in zip(wide_back(grad), plain_back(grad), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(*(np.float32(y) for y in (one, other)), rtol=tolerance, atol=2 * tolerance)


def test_gradients_of_float32_kernels_are_not_rounded():
    """The sum over many rows is that of exact products of bfloat16, which a result in bfloat16 would lose."""
    x, grad = (jax.random.normal(jax.random.key(i), (64, 64, 4)).astype(jnp.bfloat16) for i in (0, 1))
    kernel = jnp.zeros((4, 4))
    found = jax.vjp(lambda k: wide_einsum("btd,de->bte", x, k), kernel)[1](grad)[0]
    exact = np.einsum("btd,bte->de", np.float64(x), np.float64(grad))
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)


def test_cpus_multiply_for_float32_unless_derivatives_are_in_forward_mode():
    assert einsum_for("cpu") is wide_einsum
    assert {einsum_for("cpu", forward=True), einsum_for("tpu"), einsum_for("gpu")} == {einsum}
    x, kernel = jnp.ones((1, 2, 3)), jnp.ones((3, 4))
    _, tangent = jax.jvp(lambda x: single(forward=True).product("", "btd,de->bte", x, kernel), (x,), (x,))
    np.testing.assert_array_equal(tangent, np.full((1, 2, 4), 3.0))


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_vectors_are_repeated_and_their_gradients_summed_in_float32_on_cpus(shape):
    vectors, like = jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape), jnp.zeros((2, 300, 3), jnp.bfloat16)
    out, back = jax.vjp(lambda v: wide_spread(v, like), vectors)
    assert out.dtype == like.dtype
    np.testing.assert_array_equal(out, spread(vectors, like))
    assert Placement("cpu").spread is wide_spread
    assert Placement("tpu").spread is spread
    np.testing.assert_array_equal(out, np.broadcast_to(vectors.reshape(-1, 1, 3), like.shape))
    (grad,) = back(jnp.ones_like(like))
    np.testing.assert_array_equal(grad, np.full(shape, 600.0 if len(shape) == 1 else 300.0))  # bfloat16 stops at 256
