"""The TPU kernel, interpreted, against softmax attention written out in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmgen_jax.models import attention, attention_kernel
from mmgen_jax.models.layers import linear
from mmgen_jax.parallel.placement import einsum, spread


def plain(qkv: np.ndarray, bias: np.ndarray, heads: int) -> np.ndarray:
    """Textbook attention: projections [B, 3D, T] and bias [3D] -> [B, D, T]."""
    b, rows, t = qkv.shape
    q, k, v = np.moveaxis((qkv + bias[:, None]).reshape(b, 3, heads, rows // 3 // heads, t), 1, 0)
    scores = np.einsum("bhdq,bhdk->bhqk", q, k) / np.sqrt(q.shape[2])
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhdk,bhqk->bhdq", v, powers / powers.sum(-1, keepdims=True)).reshape(b, -1, t)


@pytest.mark.parametrize(("heads", "width", "tokens"), [(2, 72, 128), (3, 8, 256), (1, 64, 384)])
def test_forward_is_softmax_attention(heads, width, tokens):
    rng = np.random.default_rng(0)
    qkv, bias = rng.normal(size=(2, 3 * heads * width, tokens)), rng.normal(size=3 * heads * width)
    out = attention_kernel.attend(jnp.float32(qkv), jnp.float32(bias), heads, True)
    np.testing.assert_allclose(out, plain(qkv, bias, heads), atol=5e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("bfloat16", 2e-2)])
def test_gradients_are_those_of_the_xla_form(dtype, tolerance):
    """Differences are relative to the largest entry. bfloat16 has 8 bits, and intermediate roundings differ."""
    heads, width = 2, 72
    project = linear(heads * width, 3 * heads * width, nnx.Rngs(0), jnp.dtype(dtype))
    project.bias[...] = jax.random.normal(jax.random.key(1), project.bias.shape)
    x, weight = jax.random.normal(jax.random.key(2), (2, 3, 128, heads * width))
    graph, params = nnx.split(project)

    def loss(attend, params, x):
        layer = nnx.merge(graph, params)
        project = lambda equation: einsum(equation, x.astype(dtype), layer.kernel[...])  # noqa: E731
        out = attend(project, layer.bias[...], heads, spread)
        return (out.astype(jnp.float32) * weight).sum()

    interpreted = functools.partial(attention.pallas, interpret=True)
    found = jax.grad(functools.partial(loss, interpreted), (0, 1))(params, x)
    wanted = jax.grad(functools.partial(loss, attention.xla), (0, 1))(params, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance * float(jnp.abs(b).max()))


def test_the_kernel_is_chosen_where_it_fits():
    assert attention.choose("auto", "tpu", 256, 72) is attention.pallas
    assert attention.choose("pallas", "tpu", 256, 64) is attention.pallas
    for platform, tokens, width in [
        ("cpu", 256, 72),
        ("gpu", 256, 72),
        ("tpu", 64, 72),
        ("tpu", 1024, 72),
        ("tpu", 256, 12),
    ]:
        assert attention.choose("pallas", platform, tokens, width) is attention.xla
    assert attention.choose("xla", "tpu", 256, 72) is attention.xla
