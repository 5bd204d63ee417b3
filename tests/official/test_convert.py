import dataclasses

import golden_arrays
import jax
import numpy as np
import pytest

from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.official.names import (
    abstract_params,
    config_from_official,
    from_official,
    latent_size_from_official,
    to_official,
)
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import torch_file


def test_round_trip_is_bit_exact_and_complete():
    weights, config = golden_arrays.weights(), golden_arrays.config()
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
    jax.tree.map(np.testing.assert_array_equal, params, back)


def test_config_is_read_off_the_shapes():
    config = golden_arrays.config()
    assert config.modalities == (("rgb", 4), ("depth", 4), ("normal", 4), ("mask", 4))
    assert (config.depth, config.width, config.patch, config.mlp_ratio) == (3, 48, 2, 4.0)
    assert (config.num_classes, config.projector_width, config.feature_width) == (10, 40, 24)
    renamed = config_from_official(golden_arrays.weights(), 4, names=("a", "b", "c", "d"))
    assert renamed.names == ("a", "b", "c", "d")
    with pytest.raises(ValueError, match="one per final layer"):
        config_from_official(golden_arrays.weights(), 4, names=("a",))


@pytest.mark.parametrize("name", sorted(golden_arrays.weights()))
def test_each_missing_weight_is_named(name):
    weights = golden_arrays.weights()
    del weights[name]
    with pytest.raises(ValueError, match=f"missing {name}$|{name}: missing"):
        from_official(weights, golden_arrays.config())


@pytest.mark.parametrize(
    "name", ["blocks.1.attn.qkv.weight", "x_embedder.proj.weight", "y_embedder.embedding_table.weight", "pos_embed"]
)
def test_misshapen_weight_is_named(name):
    weights = golden_arrays.weights()
    weights[name] = weights[name][..., :-1]
    with pytest.raises(ValueError, match=f"{name} (has shape|.* instead of)"):
        from_official(weights, golden_arrays.config())


def test_leftover_weight_is_named():
    with pytest.raises(ValueError, match="left over blocks.3.attn.qkv.bias$"):
        from_official(golden_arrays.weights() | {"blocks.3.attn.qkv.bias": np.zeros(144)}, golden_arrays.config())


def test_other_position_embedding_is_refused():
    weights = golden_arrays.weights()
    weights["pos_embed"] = weights["pos_embed"] + 0.1
    with pytest.raises(ValueError, match="pos_embed: differs"):
        from_official(weights, golden_arrays.config())


def test_weights_are_floating_point_numbers_of_any_precision():
    half = {name: value.astype(np.float16) for name, value in golden_arrays.weights().items()}
    half["pos_embed"] = golden_arrays.weights()["pos_embed"]
    params = from_official(half, golden_arrays.config())
    assert params["class_embed"]["embedding"].dtype == np.float32
    with pytest.raises(ValueError, match="blocks.0.attn.qkv.bias has type int64"):
        from_official(golden_arrays.weights() | {"blocks.0.attn.qkv.bias": np.zeros(144, int)}, golden_arrays.config())


def test_official_order_is_that_of_the_official_file():
    back = to_official(from_official(golden_arrays.weights(), golden_arrays.config()), golden_arrays.config(), 8)
    stored = torch_file.read(golden_arrays.FOLDER / "mmgen_tiny.pt")
    assert list(back) == list(stored["model"])


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("x_embedder.proj.weight", None, "x_embedder.proj.weight: missing"),
        ("x_embedder.proj.weight", np.zeros((48, 64)), "has shape .*: must have 4 dimensions"),
        ("lis_final_layer.2.linear.weight", None, "lis_final_layer.2.linear.weight: missing"),
        ("y_embedder.embedding_table.weight", np.zeros((0, 48)), "none of them 0"),
        ("blocks.0.mlp.fc1.weight", None, "blocks.0.mlp.fc1.weight: missing"),
        ("projectors.0.4.weight", np.zeros(3), "must have 2 dimensions"),
    ],
)
def test_what_a_config_cannot_be_read_off_is_named(name, value, text):
    weights = golden_arrays.weights()
    weights.pop(name)
    if value is not None:
        weights[name] = value
    with pytest.raises(UsageError, match=text):
        config_from_official(weights, 4)
