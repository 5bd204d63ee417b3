"""Tests that models with one modality become MMGen's, and that models are widened to more modalities."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.models.mmdit import MMDiT
from mmgen_jax.official.names import check, config_from_official, from_official
from mmgen_jax.official.widen import from_one_modality, has_one_modality, widen
from mmgen_jax.system.errors import UsageError

torch = pytest.importorskip("torch")
from torch_sit import SiT  # noqa: E402

CHANNELS = dict.fromkeys(("rgb", "depth", "normal", "mask"), 4)
T = np.array([0, 0.1, 0.5, 0.93, 1], np.float32)
CLASSES = np.array([0, 1, 6, 7, 3])


def state_of(sit):
    return {name: value.detach().numpy() for name, value in sit.state_dict().items()}


def build(state, names=None):
    config = config_from_official(state, num_heads=4, names=names, encoder_depth=2)
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: MMDiT(config, rngs=nnx.Rngs(0))))
    params = from_official(state, config)
    program = jax.jit(lambda params, x, t, task: nnx.merge(graphdef, params)(x, t, Prompt(CLASSES, task)))
    order = [name for name, _ in config.modalities]
    return params, lambda params, x, t, task: program(params, OrderedDict((m, x[m]) for m in order), t, task)


@pytest.fixture(scope="module")
def repa():
    torch.manual_seed(0)
    return SiT(width=32, depth=3, heads=4, classes=7, size=8, features=24, tap=2).eval()


@pytest.fixture(scope="module")
def rgb():
    return np.random.default_rng(0).normal(size=(5, 8, 8, 4)).astype(np.float32)


def test_repa_computes_the_same(repa, rgb):
    state = from_one_modality(state_of(repa), data_at_one=False)
    params, run = build(state)
    velocity, features = run(params, {"rgb": rgb}, T[:, None], np.zeros(5, int))
    x = torch.from_numpy(rgb.transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected, tapped = repa(x, torch.from_numpy(T), torch.from_numpy(CLASSES))
    np.testing.assert_allclose(velocity["rgb"], expected.permute(0, 2, 3, 1), atol=5e-5)
    np.testing.assert_allclose(features, tapped, atol=5e-5)


@pytest.mark.parametrize("double", [True, False])
def test_sit_computes_the_same_in_opposite_time(rgb, double):
    torch.manual_seed(1)
    sit = SiT(width=32, depth=2, heads=4, classes=7, size=8, double=double).eval()
    params, run = build(from_one_modality(state_of(sit), data_at_one=True))
    velocity, features = run(params, {"rgb": rgb}, T[:, None], np.zeros(5, int))
    x = torch.from_numpy(rgb.transpose(0, 3, 1, 2))
    with torch.no_grad():
        expected, _ = sit(x, 1 - torch.from_numpy(T), torch.from_numpy(CLASSES))
    np.testing.assert_allclose(velocity["rgb"], -expected.permute(0, 2, 3, 1), atol=5e-5)
    assert features is None


def test_old_names_of_later_blocks(repa):
    state = state_of(repa)
    old = {name.replace("blocks.2.", "decoder_blocks.0."): value for name, value in state.items()}
    new, expected = (from_one_modality(s, data_at_one=False) for s in (old, state))
    assert new.keys() == expected.keys()


def test_wider_model_has_the_same_rgb_whatever_the_rest_is(repa, rgb):
    state = from_one_modality(state_of(repa), data_at_one=False)
    params, run = build(state)
    expected, tapped = run(params, {"rgb": rgb}, T[:, None], np.zeros(5, int))
    wider = widen(state, ("rgb",), CHANNELS)
    wide_params, wide_run = build(wider)
    rng = np.random.default_rng(1)
    for task in range(5):
        x = {m: 100 * rng.normal(size=(5, 8, 8, c)).astype(np.float32) for m, c in CHANNELS.items()} | {"rgb": rgb}
        t = np.concatenate([T[:, None], rng.uniform(size=(5, 3))], 1).astype(np.float32)
        velocity, features = wide_run(wide_params, x, t, np.full(5, task))
        np.testing.assert_array_equal(velocity["rgb"], expected["rgb"])
        np.testing.assert_array_equal(features, tapped)
        assert all(not velocity[m].any() for m in ("depth", "normal", "mask"))


def test_new_parts_learn_from_the_first_step(repa, rgb):
    params, run = build(widen(from_one_modality(state_of(repa), data_at_one=False), ("rgb",), CHANNELS))
    rng = np.random.default_rng(1)
    x = {m: rng.normal(size=(5, 8, 8, c)).astype(np.float32) for m, c in CHANNELS.items()} | {"rgb": rgb}

    def loss(params):
        velocity, _ = run(params, x, np.tile(T[:, None], 4), np.arange(5))
        return sum(jnp.square(velocity[m] - x[m][..., :1]).mean() for m in CHANNELS)

    gradient = jax.grad(loss)(params)
    kernel = gradient["patch_embed"]["kernel"].reshape(4, sum(CHANNELS.values()), -1)
    assert (np.abs(kernel).max((0, 2)) > 0).all()
    assert (np.abs(gradient["time_embed"]["fused"]["kernel"].reshape(4, 16, -1)).max((1, 2)) > 0).all()
    assert (np.abs(gradient["task_embed"]["embedding"]).max(1) > 0).all()
    for m in CHANNELS:
        assert np.abs(gradient["heads"][m]["linear"]["kernel"]).max() > 0


def test_two_modalities_widen_to_four_around_them(repa, rgb):
    two = widen(from_one_modality(state_of(repa), data_at_one=False), ("rgb",), {"rgb": 4, "normal": 4})
    rng = np.random.default_rng(2)
    two = {name: value if name == "pos_embed" else rng.normal(size=value.shape) / 6 for name, value in two.items()}
    narrow = {"rgb": rgb, "normal": rng.normal(size=(5, 8, 8, 4))}
    params, run = build(two, ("rgb", "normal"))
    wide_params, wide_run = build(widen(two, ("rgb", "normal"), CHANNELS))
    x = narrow | {m: rng.normal(size=(5, 8, 8, 4)) for m in ("depth", "mask")}
    t = rng.uniform(size=(5, 4))
    for task, wide_task in ((0, 0), (1, 1), (2, 3)):
        expected, _ = run(params, narrow, t[:, [0, 2]], np.full(5, task))
        found, _ = wide_run(wide_params, x, t, np.full(5, wide_task))
        for m in narrow:
            np.testing.assert_allclose(found[m], expected[m], atol=1e-5)


def test_only_one_head_is_one_modality(repa):
    state = state_of(repa)
    assert has_one_modality(state)
    assert not has_one_modality(from_one_modality(state, data_at_one=False))


@pytest.mark.parametrize(
    "name, value, text",
    [
        ("final_layer.linear.bias", None, "lis_final_layer.0.linear.bias: missing"),
        ("final_layer.linear.weight", np.zeros((24, 32)), "has 24 rows: must be 16"),
        ("t_embedder.mlp.2.weight", None, "t_embedder.mlp.2.weight: missing"),
        ("t_embedder.mlp.0.weight", np.zeros((32, 128)), "t_embedder.mlp.0.weight has shape"),
        ("x_embedder.proj.weight", np.zeros((32, 16)), "x_embedder.proj.weight has shape"),
        ("x_embedder.proj.weight", np.zeros((0, 4, 2, 2)), "none of them 0"),
        ("final_layer.adaLN_modulation.1.bias", None, "missing lis_final_layer.0.adaLN_modulation.1.bias$"),
    ],
)
def test_damaged_models_are_named(repa, name, value, text):
    state = state_of(repa)
    state.pop(name)
    if value is not None:
        state[name] = value
    with pytest.raises(UsageError, match=text):
        new = from_one_modality(state, data_at_one=True)
        check(new, config_from_official(new, num_heads=4))


def test_time_embedding_of_many_dimensions_is_refused():
    torch.manual_seed(0)
    state = state_of(SiT(width=8, depth=1, heads=2, classes=2, size=4))
    state["t_embedder.mlp.0.weight"] = 50 * state["t_embedder.mlp.0.weight"]
    with pytest.raises(UsageError, match="more than 4 dimensions"):
        from_one_modality(state, data_at_one=False)


def test_what_cannot_widen_is_refused(repa):
    state = from_one_modality(state_of(repa), data_at_one=False)
    with pytest.raises(UsageError, match="rgb must be among depth, normal"):
        widen(state, ("rgb",), {"depth": 4, "normal": 4})
    with pytest.raises(UsageError, match="has 4 input channels: must be those of rgb 3"):
        widen(state, ("rgb",), {"rgb": 3, "normal": 4})
