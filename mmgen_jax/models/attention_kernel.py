"""Self-attention of one device as a Pallas kernel for TPUs, forward and backward, for few tokens (a few hundred).

One grid step does all heads of one sample, whose scores fit into VMEM whole: there is no loop over blocks of keys and
nothing but the projections, the result and the gradient passes through HBM. Tokens lie on lanes: head sizes that are no
multiple of 128 (72 for XL) then pad to sublanes only, and the softmax reduces over sublanes. The bias of the fused
projection is added, and its gradient summed, inside, which saves two passes over the largest activation.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

LANES = 128
MAX_TOKENS = 512  # beyond, scores of one head take more than 1 MB and blocks of keys pay
VMEM_BYTES = 64 * 2**20


def fits(tokens: int, head_width: int) -> bool:
    """Whether the kernel is made for these shapes."""
    return tokens % LANES == 0 and tokens <= MAX_TOKENS and head_width % 8 == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def attend(qkv: jax.Array, bias: jax.Array, heads: int, interpret: bool = False) -> jax.Array:
    """Softmax attention of projections without their bias.

    Args:
      qkv: [B, 3 * D, T]; q, k and v, each heads x D / heads, tokens last.
      bias: [3 * D], added to all tokens.
      heads: divides D; D / heads a multiple of 8.
      interpret: run on any platform, slowly, for tests.

    Returns:
      [B, D, T] in the type of qkv; scores and sums in float32.
    """
    return _forward(qkv, bias, heads, interpret)


def _dot(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(
        a, b, (((axis_a,), (axis_b,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def _head(qkv, bias, part: int, head: int, width: int, heads: int) -> jax.Array:
    """[width, T] of q, k or v (part 0, 1, 2) of one head, with its bias."""
    rows = pl.ds((part * heads + head) * width, width)
    return (qkv[0, rows, :].astype(jnp.float32) + bias[rows, :1]).astype(qkv.dtype)


def _softmax(k: jax.Array, q: jax.Array, scale: float) -> tuple[jax.Array, jax.Array]:
    """exp of scores [keys, queries] in float32, and their sums over keys."""
    scores = _dot(k, q, 0, 0)
    powers = jnp.exp((scores - scores.max(0, keepdims=True)) * scale)
    return powers, powers.sum(0, keepdims=True)


def _forward_body(heads: int, scale: float, qkv, bias, out) -> None:
    width = out.shape[1] // heads
    for head in range(heads):
        q, k, v = (_head(qkv, bias, part, head, width, heads) for part in range(3))
        powers, total = _softmax(k, q, scale)
        mixed = _dot(v, powers.astype(v.dtype), 1, 0) * (1 / total)
        out[0, pl.ds(head * width, width), :] = mixed.astype(out.dtype)


def _backward_body(heads: int, scale: float, qkv, bias, out, d_out, d_qkv, d_bias) -> None:
    width = out.shape[1] // heads

    @pl.when(pl.program_id(0) == 0)
    def _():
        d_bias[...] = jnp.zeros_like(d_bias)

    for head in range(heads):
        q, k, v = (_head(qkv, bias, part, head, width, heads) for part in range(3))
        rows = pl.ds(head * width, width)
        o, g = out[0, rows, :], d_out[0, rows, :]
        powers, total = _softmax(k, q, scale)
        shares = powers * (1 / total)
        along = (o.astype(jnp.float32) * g.astype(jnp.float32)).sum(0, keepdims=True)
        d_scores = (shares * (_dot(v, g, 0, 0) - along) * scale).astype(k.dtype)
        grads = (_dot(k, d_scores, 1, 0), _dot(q, d_scores, 1, 1), _dot(g, shares.astype(g.dtype), 1, 1))
        for part, grad in enumerate(grads):
            rows = pl.ds((part * heads + head) * width, width)
            d_qkv[0, rows, :] = grad.astype(d_qkv.dtype)
            # Lane groups are added here; the 128 partial sums outside.
            d_bias[rows, :] += sum(grad[:, i : i + LANES] for i in range(0, grad.shape[1], LANES))


def _rows(array: jax.Array) -> pl.BlockSpec:
    """One sample of [B, rows, T] per grid step."""
    return pl.BlockSpec((1, *array.shape[1:]), lambda i: (i, 0, 0))


def _cost(qkv: jax.Array, products: int, passes: int, heads: int) -> pl.CostEstimate:
    """What the compiler plans with: `products` matrix products of T x T x D, `passes` over [D, T]."""
    batch, width, tokens = qkv.shape[0], qkv.shape[1] // 3, qkv.shape[2]
    return pl.CostEstimate(
        flops=2 * products * batch * tokens**2 * width,
        transcendentals=batch * heads * tokens**2,
        bytes_accessed=passes * batch * tokens * width * qkv.dtype.itemsize,
    )


def _columns(bias: jax.Array) -> jax.Array:
    """[3 * D] -> float32 [3 * D, 128]: a bias per sublane."""
    return jnp.broadcast_to(bias.astype(jnp.float32)[:, None], (*bias.shape, LANES))


def _params(semantics: str) -> pltpu.CompilerParams:
    return pltpu.CompilerParams(dimension_semantics=(semantics,), vmem_limit_bytes=VMEM_BYTES)


def _scale(qkv: jax.Array, heads: int) -> float:
    return (qkv.shape[1] // 3 // heads) ** -0.5


def _forward(qkv: jax.Array, bias: jax.Array, heads: int, interpret: bool) -> jax.Array:
    batch, rows, tokens = qkv.shape
    out = jax.ShapeDtypeStruct((batch, rows // 3, tokens), qkv.dtype)
    whole = pl.BlockSpec((rows, LANES), lambda i: (0, 0))
    return pl.pallas_call(
        functools.partial(_forward_body, heads, _scale(qkv, heads)),
        grid=(batch,),
        in_specs=[_rows(qkv), whole],
        out_specs=_rows(out),
        out_shape=out,
        compiler_params=_params("parallel"),
        cost_estimate=_cost(qkv, 2, 4, heads),
        interpret=interpret,
        name="attention_forward",
    )(qkv, _columns(bias))


def _attend_forward(qkv: jax.Array, bias: jax.Array, heads: int, interpret: bool):
    out = checkpoint_name(_forward(qkv, bias, heads, interpret), "attention")
    return out, (qkv, bias, out)


def _attend_backward(heads: int, interpret: bool, residuals, d_out: jax.Array) -> tuple[jax.Array, jax.Array]:
    qkv, bias, out = residuals
    batch, rows, _ = qkv.shape
    whole = pl.BlockSpec((rows, LANES), lambda i: (0, 0))
    d_qkv, d_bias = pl.pallas_call(
        functools.partial(_backward_body, heads, _scale(qkv, heads)),
        grid=(batch,),
        in_specs=[_rows(qkv), whole, _rows(out), _rows(out)],
        out_specs=[_rows(qkv), whole],
        out_shape=[
            jax.ShapeDtypeStruct(qkv.shape, qkv.dtype),
            jax.ShapeDtypeStruct((rows, LANES), jnp.float32),
        ],
        compiler_params=_params("arbitrary"),  # grid steps add to one gradient of the bias
        cost_estimate=_cost(qkv, 5, 8, heads),
        interpret=interpret,
        name="attention_backward",
    )(qkv, _columns(bias), out, d_out)
    return d_qkv, d_bias.sum(1).astype(bias.dtype)


attend.defvjp(_attend_forward, _attend_backward)
