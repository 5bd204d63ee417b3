import dataclasses

import golden_arrays as golden
import jax
import numpy as np
import pytest
from flax import nnx

from mmgen_jax.models.convert import (
    abstract_params,
    config_from_official,
    from_official,
    latent_size_from_official,
    to_official,
)
from mmgen_jax.models.mmdit import MMDiTConfig


def test_round_trip_is_bit_exact_and_complete():
    weights, config = golden.weights(), golden.config()
    back = to_official(from_official(weights, config), config, latent_size_from_official(weights))
    assert set(back) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_every_parameter_of_an_own_model_goes_out_and_comes_back():
    config = MMDiTConfig((("rgb", 3), ("depth", 1)), depth=2, width=16, heads=2, patch=2, num_classes=3)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract_params(config))
    with pytest.raises(ValueError, match="projectors"):
        projector = dataclasses.replace(config, feature_width=4, encoder_depth=1)
        from_official(to_official(params, config, latent_size=8), projector)
    back = from_official(to_official(params, config, latent_size=8), config)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(params), back)


def test_config_is_read_off_the_shapes():
    config = golden.config()
    assert config.modalities == (("rgb", 4), ("depth", 4), ("normal", 4), ("mask", 4))
    assert (config.depth, config.width, config.patch, config.mlp_ratio) == (3, 48, 2, 4.0)
    assert (config.num_classes, config.projector_width, config.feature_width) == (10, 40, 24)
    renamed = config_from_official(golden.weights(), 4, names=("a", "b", "c", "d"))
    assert renamed.names == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="one per final layer"):
        config_from_official(golden.weights(), 4, names=("a",))


@pytest.mark.parametrize("name", sorted(golden.weights()))
def test_each_missing_weight_is_named(name):
    weights = golden.weights()
    del weights[name]
    with pytest.raises(ValueError, match=f"{name}: missing"):
        from_official(weights, golden.config())


@pytest.mark.parametrize(
    "name", ["blocks.1.attn.qkv.weight", "x_embedder.proj.weight", "y_embedder.embedding_table.weight", "pos_embed"]
)
def test_misshapen_weight_is_named(name):
    weights = golden.weights()
    weights[name] = weights[name][..., :-1]
    with pytest.raises(ValueError, match=f"{name} has shape"):
        from_official(weights, golden.config())


def test_leftover_weight_is_named():
    with pytest.raises(ValueError, match="blocks.3.attn.qkv.bias: unknown"):
        from_official(golden.weights() | {"blocks.3.attn.qkv.bias": np.zeros(144)}, golden.config())


def test_other_position_embedding_is_refused():
    weights = golden.weights()
    weights["pos_embed"] = weights["pos_embed"] + 0.1
    with pytest.raises(ValueError, match="pos_embed: differs"):
        from_official(weights, golden.config())
