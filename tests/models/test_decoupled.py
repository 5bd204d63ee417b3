"""A flow map has the weights of its model, and computes the same where steps have no length."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from mmgen_jax.models.mmdit import MMDiTConfig, parse_size
from mmgen_jax.system.errors import UsageError

ROWS = 4


def decoupled(share=0.5, **changes):
    """The tiny model as a flow map, with blocks of which the first sees t, and its parameters."""
    plain, _ = tiny_model.build()
    model = dataclasses.replace(plain.model, decoupled=share, **changes)
    a = dataclasses.replace(plain, model=model)
    return a, tiny_model.random(a, 0)


def test_without_a_step_it_is_bitwise_the_plain_network():
    a, params = decoupled(feature_width=6, projector_width=8, encoder_depth=1)
    plain = dataclasses.replace(a, model=dataclasses.replace(a.model, decoupled=0.0))
    x, t, prompt = tiny_model.inputs(a, ROWS)
    expected = jax.jit(plain.apply)(params, x, t, prompt)
    for r in (None, t):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(a.apply)(params, x, t, prompt, r=r), expected)


def test_it_has_the_parameters_of_the_plain_network():
    a, _ = decoupled()
    plain, params = tiny_model.build()
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, jax.eval_shape(a.init, jax.random.key(0)))


@pytest.mark.parametrize("share, seen", [(0.5, 1), (1.0, 2), (0.01, 1)])
def test_the_first_blocks_see_the_time_and_the_others_the_end(share, seen):
    """Features after the blocks that see t do not depend on r, and velocities, which come later, do."""
    for depth in (1, 2):
        a, params = decoupled(share, feature_width=6, projector_width=8, encoder_depth=depth)
        assert a.model.blocks_of_start == seen
        x, t, prompt = tiny_model.inputs(a, ROWS)
        apply = jax.jit(a.apply)
        velocity, features = apply(params, x, t, prompt, r=t)
        other, others = apply(params, x, t, prompt, r=0.5 * t)
        assert np.array_equal(features, others) == (depth <= seen)
        assert all(not np.allclose(velocity[m], other[m], atol=1e-3) for m in velocity)


def test_blocks_of_the_published_sizes():
    for size, count in (("XL/2", 19), ("L/2", 16), ("B/2", 8), ("S/2", 8)):
        assert MMDiTConfig((("rgb", 4),), num_classes=1, decoupled=2 / 3, **parse_size(size)).blocks_of_start == count


def test_bad_ends_are_named():
    a, params = decoupled()
    x, t, prompt = tiny_model.inputs(a, ROWS)
    with pytest.raises(ValueError, match=r"r has shape \(4, 1\): must be \(4, 4\), one time per modality"):
        a.apply(params, x, t, prompt, r=t[:, :1])
    plain, params = tiny_model.build()
    with pytest.raises(UsageError, match="model.decoupled is 0; a flow map needs a model that was trained with it"):
        plain.apply(params, x, t, prompt, r=t)
    with pytest.raises(UsageError, match="model.decoupled is 1.5; it must be a number 0 to 1"):
        decoupled(1.5)
