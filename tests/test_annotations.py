"""Annotations of the package are executed in this process, see `annotations.py`."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest

from mmgen_jax.diffusion import losses
from mmgen_jax.diffusion.conditioning import Conditions
from mmgen_jax.frozen.autoencoders.patches import space_to_depth


def test_a_wrong_shape_is_an_error():
    error, supervised = jnp.zeros((4, 2)), jnp.ones((4, 2), bool)
    losses.by_time(error, supervised, jnp.zeros((4, 2)))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 't'"):
        losses.by_time(error, supervised, jnp.zeros((4, 3)))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'x'"):
        jax.jit(space_to_depth, static_argnums=1)(jnp.zeros((2, 4, 4)), 2)


def test_a_wrong_type_is_an_error():
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'supervised'"):
        losses.mean_weights(jnp.ones((4, 2)))
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'factor'"):
        space_to_depth(jnp.zeros((1, 4, 4, 3)), "2")


def test_pytrees_hold_anything():
    """JAX makes them anew of whatever stands for their arrays."""
    conditions = Conditions(jnp.zeros((4, 2)), jnp.zeros(4, int), jnp.zeros((4, 2), bool), jnp.ones((4, 2), bool))
    assert jax.tree.map(lambda x: x.ndim, conditions).t == 2
    assert jax.vmap(lambda _: conditions)(jnp.arange(3)).t.shape == (3, 4, 2)
