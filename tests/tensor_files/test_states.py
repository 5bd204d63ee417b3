"""Weights are found whatever they are wrapped in, with the right values, or one line says what a file holds."""

import numpy as np
import pytest

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import states, torch_write
from mmgen_jax.tensor_files.tensors import read as read_file
from mmgen_jax.tensor_files.torch_pickle import Unknown

ANCHORS = ("stem.weight",)
STATE = {"stem.weight": np.arange(3.0), "blocks.0.bias": np.arange(2.0)}


def prefixed(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


PREFIXES = (
    "",
    "module.",
    "_orig_mod.",
    "model.",
    "backbone.",
    "_orig_mod.module.",
    "module._orig_mod.",
    "model.module.",
    "module.model.",
    "net._orig_mod.encoder.",
    "_fsdp_wrapped_module.",
    "_forward_module.model.",
)
WRAPPINGS = {
    "bare": lambda s: s,
    **{
        key: lambda s, key=key: {key: s, "epoch": 3, "opt": {"state": {0: {"step": np.asarray(3)}}}}
        for key in (
            "state_dict",
            "model",
            "model_state_dict",
            "ema",
            "params",
            "params_ema",
            "net",
            "teacher",
            "module",
        )
    },
    "nested": lambda s: {"checkpoint": {"model": s}},
    "beside objects": lambda s: {"state_dict": s, "config": Unknown("omegaconf.DictConfig")},
    "beside numbers": lambda s: s | {"epoch": 3, "n_averaged": np.asarray(7), "names": ["a"]},
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_prefix_in_every_wrapping(prefix, wrapping):
    found = states.read(WRAPPINGS[wrapping](prefixed(prefix)), ANCHORS, "file")
    assert set(found.whole) == set(found.weights) == set(STATE) and len(found.whole) == len(STATE)
    for name, value in STATE.items():
        np.testing.assert_array_equal(found.whole[name], value)


def test_parts_that_are_compiled_or_wrapped_alone():
    state = {"stem._orig_mod.weight": np.arange(3.0), "blocks.0._checkpoint_wrapped_module.bias": np.arange(2.0)}
    assert set(states.read(state, ANCHORS, "file").whole) == set(STATE)


def test_the_order_of_names_is_that_of_the_file():
    state = {"module.b": np.zeros(1), "module.stem.weight": np.zeros(1), "module.a": np.zeros(1)}
    assert list(states.read(state, ANCHORS, "file").whole) == ["b", "stem.weight", "a"]


@pytest.mark.parametrize("key", ["ema", "model_ema", "params_ema", "ema_state_dict", "ema.model"])
def test_an_average_is_preferred(key):
    average = {"stem.weight": np.full(3, 7.0)}
    entries = {key: average} if "." not in key else {"ema": {"model": average}}
    assert states.read({"model": STATE, **entries}, ANCHORS, "file").whole["stem.weight"].tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    "value, text",
    [
        ({"teacher": STATE, "student": STATE}, r"several networks \(teacher, student\)"),
        (prefixed("a.") | prefixed("b."), r"several networks \(a, b\)"),
        (STATE | prefixed("module."), "holds both stem.weight and module.stem.weight"),
        ({}, "it has nothing"),
        ([np.zeros(1)], "it is a value of type list"),
        ({"a": 1}, "it has a$"),
        ({"state_dict": {"stem.weight": [1.0]}}, "it has state_dict"),
        ({3: np.zeros(1)}, "it has 3"),
        ({"instem.weight": np.zeros(1)}, "it has instem.weight"),
        (Unknown("torch.nn.modules.linear.Linear"), r"pickled torch.nn.modules.linear.Linear; save its state_dict\(\)"),
        (
            {"stem.weight": Unknown("torch._utils._rebuild_qtensor")},
            "values of the kinds torch._utils._rebuild_qtensor, which are not read",
        ),
    ],
)
def test_what_holds_no_such_network_is_described(value, text):
    with pytest.raises(UsageError, match=text):
        states.read(value, ANCHORS, "file")


def test_others_beside_the_weights_stay_under_their_names(tmp_path):
    torch_write.write(tmp_path / "x.pt", {"state_dict": prefixed("net.") | {"head.weight": np.zeros(1)}})
    found = states.read(read_file(tmp_path / "x.pt"), ANCHORS, "x.pt")
    assert found.prefix == "net." and set(found.weights) == set(STATE)
    assert set(found.whole) == set(STATE) | {"head.weight"}
