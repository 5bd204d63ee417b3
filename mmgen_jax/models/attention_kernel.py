"""Self-attention of one device as a Pallas kernel for TPUs, forward and backward, for few tokens (a few hundred).

One grid step computes all heads of one sample, whose scores fit into VMEM (fast memory) as a whole: there is no loop
over blocks of keys, and only the projections, the result and the gradient pass through HBM. Tokens lie on lanes (the
last axis), so that head sizes that are not a multiple of 128 (72 for XL) are padded to sublanes only, and the softmax
reduces over sublanes. The bias of the fused projection is added inside, and its gradient summed inside, which saves two
passes over the largest activation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from mmgen_jax.parallel.precision import precision_of

LANES = 128  # width of a TPU's vector registers
LOG2_E = math.log2(math.e)
T = TypeVar("T")
MAX_TOKENS = 512  # with more, the scores of a head take over 1 MB, and a loop over blocks of keys would be faster
VMEM_BYTES = 64 * 2**20  # fast memory that the kernel may use


def fits(tokens: int, head_width: int) -> bool:
    """Whether the kernel can compute these shapes."""
    return tokens % LANES == 0 and tokens <= MAX_TOKENS and head_width % 8 == 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def attend(qkv: jax.Array, bias: jax.Array, heads: int, interpret: bool = False) -> jax.Array:
    """Computes softmax attention from projections whose bias is not added yet.

    Args:
      qkv: [B, 3 * D, T]: q, k and v, each of heads x D / heads rows, tokens last.
      bias: [3 * D], the bias of the projections, which is added to all tokens.
      heads: number of heads. It must divide D, and D / heads must be a multiple of 8.
      interpret: whether to run slowly on any platform, for tests.

    Returns:
      [B, D, T] in the type of qkv. Scores and sums are float32.
    """
    return _forward(qkv, bias, heads, interpret)[0]


def _dot(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    contracted = (((axis_a,), (axis_b,)), ((), ()))
    exact = precision_of(a.dtype)
    return jax.lax.dot_general(a, b, contracted, precision=exact, preferred_element_type=jnp.float32)


def _of_head(part: int, head: int, width: int, heads: int) -> slice | pl.Slice:
    """Rows of q, k or v (part 0, 1, 2) of one head."""
    return pl.ds((part * heads + head) * width, width)


def _one_ahead(start: Callable[[int], T], heads: int) -> Iterator[tuple[int, T]]:
    """Yields each head with what `start` returns for it. The next head is started before a head is yielded.

    So the matrix units compute the scores of the next head while the vector units compute the softmax of this one. The
    compiler reorders only within a short window and would not find this order by itself.
    """
    current = start(0)
    for head in range(heads - 1):
        ahead = start(head + 1)
        yield head, current
        current = ahead
    yield heads - 1, current


def _scores(qkv, bias, heads: int, width: int, head: int) -> tuple[jax.Array, jax.Array]:
    """Scores float32 [keys, queries] as logarithms to base 2, and the scaled q [width, T].

    TPUs compute powers of 2 in hardware, so q is scaled by log2(e) besides 1 / sqrt(width). The bias of k is left out:
    it adds the same number to all scores of a query, which the softmax cancels.
    """
    rows = _of_head(0, head, width, heads)
    q = (qkv[0, rows, :].astype(jnp.float32) + bias[rows, :1]) * (width**-0.5 * LOG2_E)
    q = q.astype(qkv.dtype)
    return _dot(qkv[0, _of_head(1, head, width, heads), :], q, 0, 0), q


def _forward_body(heads: int, qkv, bias, out, log_sums) -> None:
    """Softmax over the keys (axis 0) of each head: out = v @ softmax(scores), normalised after the multiplication.

    Dividing the [width, T] result by the sums takes fewer operations than dividing the [T, T] powers. The bias of v is
    added to the result, as the shares of a query add up to 1. `log_sums` keeps log2 of each query's sum of powers, from
    which the backward pass computes the shares without a second reduction.
    """
    width = out.shape[1] // heads
    for head, (scores, _) in _one_ahead(functools.partial(_scores, qkv, bias, heads, width), heads):
        values = _of_head(2, head, width, heads)
        largest = scores.max(0, keepdims=True)
        powers = jnp.exp2(scores - largest)
        total = powers.sum(0, keepdims=True)
        mixed = _dot(qkv[0, values, :], powers.astype(qkv.dtype), 1, 0) * (1 / total)
        out[0, pl.ds(head * width, width), :] = (mixed + bias[values, :1]).astype(out.dtype)
        log_sums[0, pl.ds(head, 1), :] = largest + LOG2_E * jnp.log(total)


def _backward_body(heads: int, qkv, bias, out, log_sums, d_out, d_qkv, d_bias) -> None:
    """Gradients of the projections and of their bias, from scores that are computed again.

    With shares p = softmax(scores) and d_shares = v^T g for the gradient g of the result:

        d_v = g p^T
        d_scores = p * (d_shares - along), where along = sum over keys of p * d_shares = (result without bias) . g
        d_q = k d_scores / sqrt(width)
        d_k = q d_scores^T / log2(e)     (q is already scaled by log2(e) / sqrt(width))

    `along` is taken from the stored result, a sum over `width` numbers instead of one over keys. The gradient of the
    bias is summed over the grid steps, that is, over the samples; k's bias has none, as it changes no share.
    """
    width = out.shape[1] // heads

    @pl.when(pl.program_id(0) == 0)  # the first sample clears the sum that all samples add to
    def _():
        d_bias[...] = jnp.zeros_like(d_bias)

    def start(head: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        v, g = qkv[0, _of_head(2, head, width, heads), :], d_out[0, pl.ds(head * width, width), :]
        return *_scores(qkv, bias, heads, width, head), _dot(v, g, 0, 0)

    for head, (scores, q, d_shares) in _one_ahead(start, heads):
        queries, keys, values = (_of_head(part, head, width, heads) for part in range(3))
        rows = pl.ds(head * width, width)
        k, g = qkv[0, keys, :], d_out[0, rows, :]
        mixed = out[0, rows, :].astype(jnp.float32) - bias[values, :1]
        along = (mixed * g.astype(jnp.float32)).sum(0, keepdims=True)
        shares = jnp.exp2(scores - log_sums[0, pl.ds(head, 1), :])
        d_scores = (shares * (d_shares - along)).astype(k.dtype)
        d_q = _dot(k, d_scores, 1, 0) * width**-0.5
        d_v = _dot(g, shares.astype(g.dtype), 1, 1)
        d_qkv[0, keys, :] = (_dot(q, d_scores, 1, 1) * (1 / LOG2_E)).astype(d_qkv.dtype)
        for rows, grad in ((queries, d_q), (values, d_v)):
            d_qkv[0, rows, :] = grad.astype(d_qkv.dtype)
            # Adds up groups of 128 lanes; the sum over the lanes of a group is left to the caller.
            d_bias[rows, :] += sum(grad[:, i : i + LANES] for i in range(0, grad.shape[1], LANES))


def _rows(array: jax.Array | jax.ShapeDtypeStruct) -> pl.BlockSpec:
    """Block specification: one sample of an array [B, rows, T] per grid step."""
    return pl.BlockSpec((1, *array.shape[1:]), lambda i: (i, 0, 0))


def _cost(qkv: jax.Array, products: int, passes: int, heads: int) -> pl.CostEstimate:
    """Cost estimate for the compiler: `products` matrix multiplications of T x T x D, and `passes` over [D, T]."""
    batch, width, tokens = qkv.shape[0], qkv.shape[1] // 3, qkv.shape[2]
    return pl.CostEstimate(
        flops=2 * products * batch * tokens**2 * width,
        transcendentals=batch * heads * tokens**2,
        bytes_accessed=passes * batch * tokens * width * qkv.dtype.itemsize,
    )


def _columns(bias: jax.Array) -> jax.Array:
    """Repeats a bias [3 * D] over the lanes, float32 [3 * D, 128], so that it can be added to columns of tokens."""
    return jnp.broadcast_to(bias.astype(jnp.float32)[:, None], (*bias.shape, LANES))


def _params(semantics: Literal["parallel", "arbitrary"]) -> pltpu.CompilerParams:
    return pltpu.CompilerParams(dimension_semantics=(semantics,), vmem_limit_bytes=VMEM_BYTES)


def _forward(qkv: jax.Array, bias: jax.Array, heads: int, interpret: bool) -> tuple[jax.Array, jax.Array]:
    """Computes the result [B, D, T], and log2 of each query's sum of powers of 2, float32 [B, heads, T]."""
    batch, rows, tokens = qkv.shape
    out = jax.ShapeDtypeStruct((batch, rows // 3, tokens), qkv.dtype)
    log_sums = jax.ShapeDtypeStruct((batch, heads, tokens), jnp.float32)
    whole = pl.BlockSpec((rows, LANES), lambda _: (0, 0))
    return pl.pallas_call(
        functools.partial(_forward_body, heads),
        grid=(batch,),
        in_specs=[_rows(qkv), whole],
        out_specs=[_rows(out), _rows(log_sums)],
        out_shape=[out, log_sums],
        compiler_params=_params("parallel"),
        cost_estimate=_cost(qkv, 2, 4, heads),
        interpret=interpret,
        name="attention_forward",
    )(qkv, _columns(bias))


def _attend_forward(qkv: jax.Array, bias: jax.Array, heads: int, interpret: bool):
    out, log_sums = checkpoint_name(_forward(qkv, bias, heads, interpret), "attention")
    return out, (qkv, bias, out, log_sums)


def _attend_backward(heads: int, interpret: bool, residuals, d_out: jax.Array) -> tuple[jax.Array, jax.Array]:
    qkv, bias, out, log_sums = residuals
    batch, rows, _ = qkv.shape
    whole = pl.BlockSpec((rows, LANES), lambda _: (0, 0))
    d_qkv, d_bias = pl.pallas_call(
        functools.partial(_backward_body, heads),
        grid=(batch,),
        in_specs=[_rows(qkv), whole, _rows(out), _rows(log_sums), _rows(out)],
        out_specs=[_rows(qkv), whole],
        out_shape=[
            jax.ShapeDtypeStruct(qkv.shape, qkv.dtype),
            jax.ShapeDtypeStruct((rows, LANES), jnp.float32),
        ],
        compiler_params=_params("arbitrary"),  # grid steps add to one gradient of the bias
        cost_estimate=_cost(qkv, 5, 8, heads),
        interpret=interpret,
        name="attention_backward",
    )(qkv, _columns(bias), out, log_sums, d_out)
    return d_qkv, d_bias.sum(1).astype(bias.dtype)


attend.defvjp(_attend_forward, _attend_backward)
