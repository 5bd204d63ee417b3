"""Official checkpoints of every precision and wrapping convert to the right values, or are refused in one line."""

import golden_arrays
import jax
import ml_dtypes
import numpy as np
import pytest

from mmgen_jax.official import checkpoint, from_torch, names
from mmgen_jax.official.checkpoint import Checkpoint
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import torch_write
from mmgen_jax.tensor_files.torch_pickle import Unknown


def converted(folder, value, **options):
    torch_write.write(folder / "m.pt", value)
    return names.from_official(checkpoint.read(folder / "m.pt", **options).weights, golden_arrays.config())


def equal(found, state):
    expected = names.to_params({k: np.asarray(v, np.float32) for k, v in state.items()}, golden_arrays.config())
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
@pytest.mark.parametrize("stored", [None, np.float32])
def test_other_precisions(tmp_path, dtype, stored):
    state = {name: value.astype(dtype) for name, value in golden_arrays.weights().items()}
    state = {name: value.astype(stored or dtype) for name, value in state.items()}
    equal(converted(tmp_path, {"ema": state}), state)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_another_position_embedding_is_refused_in_half_precision_too(tmp_path, dtype):
    state = {name: value.astype(dtype) for name, value in golden_arrays.weights().items()}
    state["pos_embed"] = (state["pos_embed"].astype(np.float32) + 0.02).astype(dtype)
    with pytest.raises(UsageError, match="pos_embed: differs"):
        converted(tmp_path, {"ema": state})


@pytest.mark.parametrize("entry", ["ema", "state_dict", "model_state_dict", "params", "net", ""])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_wrappings(tmp_path, entry, prefix):
    state = golden_arrays.weights()
    value = {prefix + name: array for name, array in state.items()}
    equal(converted(tmp_path, {entry: value, "steps": np.asarray(5)} if entry else value), state)


def test_which_weights_and_steps(tmp_path):
    state = golden_arrays.weights()
    equal(converted(tmp_path, {"model": state}, which="model"), state)
    with pytest.raises(UsageError, match="has no weights 'ema'; it has: model, which --weights can choose"):
        converted(tmp_path, {"model": state})
    for steps in (np.asarray(7), np.asarray([7]), 7.0):
        torch_write.write(tmp_path / "m.pt", {"ema": state, "steps": steps})
        assert checkpoint.read(tmp_path / "m.pt").step == 7
    for steps in (np.asarray([7, 8]), 7.5, -1, 2**31, np.asarray(float("nan")), True):
        torch_write.write(tmp_path / "m.pt", {"ema": state, "steps": steps})
        with pytest.raises(UsageError, match="steps is not an integer"):
            checkpoint.read(tmp_path / "m.pt")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(tmp_path, bad):
    state = golden_arrays.weights()
    state["blocks.1.attn.qkv.bias"] = state["blocks.1.attn.qkv.bias"].copy()
    state["blocks.1.attn.qkv.bias"][3] = bad
    with pytest.raises(UsageError, match=r"blocks.1.attn.qkv.bias has values that are not finite: 1 of 144, .*\[3\]"):
        converted(tmp_path, {"ema": state})


def test_arguments_of_a_class_that_is_not_known_are_said(capsys):
    assert checkpoint._arguments(Unknown("omegaconf.DictConfig"), "x.pt") == {}
    assert "x.pt: its entry args is a omegaconf.DictConfig, which is not read" in capsys.readouterr().out


@pytest.mark.parametrize(
    "file, args, expected",
    [
        ("SiT-XL-2-256x256.pt", {}, "sit"),
        ("w.pt", {"path_type": "Linear"}, "sit"),
        ("w.pt", {"path_type": "GVP"}, "sit"),
        ("w.pt", {"path_type": "linear"}, "repa"),
        ("w.pt", {}, None),
        ("DiT-XL-2-256x256.pt", {}, None),
        ("sitting.pt", {}, None),
    ],
)
def test_the_objective_of_one_modality_is_told_or_asked(file, args, expected):
    found = Checkpoint(file, {}, args, 0, {})
    if expected:
        assert from_torch._convention(found) == expected
    else:
        with pytest.raises(UsageError, match="give --convention=sit .* DiT, which predicts noise, cannot be converted"):
            from_torch._convention(found)


def test_dit_is_refused_whatever_is_asked():
    with pytest.raises(UsageError, match="is a DiT by its args.model"):
        from_torch.mmgen_state(Checkpoint("w.pt", {}, {"model": "DiT-XL/2"}, 0, {}), "sit")
