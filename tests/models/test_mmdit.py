import dataclasses
import functools
from collections import OrderedDict

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from annotations import unchecked
from flax import nnx, traverse_util

from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.models import layers
from mmgen_jax.models.mmdit import MMDiT, MMDiTConfig, parse_size
from mmgen_jax.models.projectors import PROJECTORS

SMALL = MMDiTConfig((("rgb", 3), ("depth", 1)), depth=3, width=32, heads=4, patch=2, num_classes=5)


@functools.cache
def build(config):
    """A network as it is initialised, whose output is 0 for any input."""
    return jax.jit(lambda: MMDiT(config, rngs=nnx.Rngs(0)))()


def with_params(config, params):
    return nnx.merge(nnx.split(nnx.eval_shape(lambda: MMDiT(config, rngs=nnx.Rngs(0))))[0], params)


def random_params(config, std=0.1):
    """Parameters that are all random, so that each matters. NumPy makes them, so nothing is compiled."""
    abstract = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: MMDiT(config, rngs=nnx.Rngs(0))), nnx.Param))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(std * rng.normal(size=leaf.shape), jnp.float32), abstract)


def build_random(config, std=0.1):
    return with_params(config, random_params(config, std))


def inputs(config, batch=2, height=8, width=8):
    keys = jax.random.split(jax.random.key(1), len(config.modalities) + 1)
    named = zip(config.modalities, keys, strict=False)
    x = OrderedDict((n, jax.random.normal(k, (batch, height, width, c))) for (n, c), k in named)
    t = jax.random.uniform(keys[-1], (batch, len(config.modalities)))
    return x, t, Prompt(jnp.arange(batch) % config.num_classes, jnp.zeros(batch, int))


@jax.jit
def run(model, *args):
    return model(*args)


def call_golden(model):
    z = golden_arrays.arrays()
    with jax.default_matmul_precision("highest"):
        prompt = Prompt(z["forward/class"], z["forward/task"])
        return run(model, golden_arrays.split(z["forward/x"]), z["forward/t"], prompt)


def test_parity_with_the_official_model():
    velocity, features = call_golden(golden_arrays.model())
    assert golden_arrays.largest_difference(velocity, golden_arrays.arrays()["forward/velocity"]) < 1e-5
    np.testing.assert_allclose(features, golden_arrays.arrays()["forward/features"], atol=1e-5)


TAPPED = dataclasses.replace(SMALL, feature_width=8, encoder_depth=2, projector_width=16)


@functools.cache
def value_and_gradient(config):
    args = inputs(config)

    def loss(params):
        velocity, features = with_params(config, params)(*args)
        return sum(jnp.mean(v**2) for v in velocity.values()) + jnp.mean(features**2)

    return jax.jit(jax.value_and_grad(loss))(random_params(config))


@pytest.mark.parametrize("change", [{"unroll": True}, {"remat": "full"}, {"remat": "names", "unroll": 2}])
def test_how_it_is_computed_changes_neither_values_nor_gradients(change):
    value, gradient = value_and_gradient(TAPPED)
    value_2, gradient_2 = value_and_gradient(dataclasses.replace(TAPPED, **change))
    np.testing.assert_allclose(value, value_2, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(gradient_2), strict=True):
        assert a.any()
        np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("depth", [1, 2])
def test_projector_reads_the_tokens_after_its_block(depth):
    """A model cut off after the block has the same features; the last blocks must not matter."""
    config = dataclasses.replace(TAPPED, encoder_depth=depth)
    args, params = inputs(config), random_params(config)
    cut = params | {"blocks": jax.tree.map(lambda p: p[:depth], params["blocks"])}
    shortened = with_params(dataclasses.replace(config, depth=depth), cut)
    np.testing.assert_allclose(run(with_params(config, params), *args)[1], run(shortened, *args)[1], atol=1e-5)


def test_a_convolution_projects_tokens_as_pytorch_does():
    torch = pytest.importorskip("torch", reason="needs ./launch/setup.sh --experts")
    layer = PROJECTORS["conv"](4, 0, 3, jnp.dtype("float32"), rngs=nnx.Rngs(0))
    tokens = np.random.default_rng(0).normal(size=(2, 15, 4)).astype(np.float32)
    layer.conv.bias[...] = jnp.arange(3.0)
    kernel, bias = (torch.from_numpy(np.array(x[...])) for x in (layer.conv.kernel, layer.conv.bias))
    image = torch.from_numpy(tokens.reshape(2, 3, 5, 4)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.conv2d(image, kernel.permute(3, 2, 0, 1), bias, padding=1)
    np.testing.assert_allclose(layer(jnp.asarray(tokens), (3, 5)), expected.flatten(2).mT.numpy(), atol=1e-5)


def test_initialisation():
    config = dataclasses.replace(SMALL, width=128, num_classes=400, feature_width=8, encoder_depth=2)
    params = traverse_util.flatten_dict(nnx.to_pure_dict(nnx.split(build(config))[1]), sep="/")
    zero = {n for n in params if n.endswith("bias") or "/adaln/" in n or n.startswith("heads/")}
    assert all(not params[n].any() for n in zero)
    normal = {"class_embed/embedding": 0.02} | {n: 0.02 for n in params if n.startswith("time_embed") and n not in zero}
    for name, std in normal.items():
        np.testing.assert_allclose(params[name].std(), std, rtol=0.05, err_msg=name)
    assert 0.8 < params["task_embed/embedding"].std() < 1.2
    for name in set(params) - zero - set(normal) - {"task_embed/embedding"}:
        limit = np.sqrt(6 / sum(params[name].shape[-2:]))  # Xavier uniform of the matrix as it is applied
        assert 0.95 * limit < np.abs(params[name]).max() <= 1.0001 * limit, name
        np.testing.assert_allclose(params[name].std(), limit / np.sqrt(3), rtol=0.1, err_msg=name)
    qkv = params["blocks/qkv/kernel"]
    assert not np.allclose(qkv[0], qkv[1])  # every block has its own random numbers
    velocity, _ = run(build(SMALL), *inputs(SMALL))
    assert all(not v.any() for v in velocity.values())


@pytest.mark.parametrize("size", ["XL/2", "L/2", "B/2", "S/2"])
def test_published_sizes(size):
    names = tuple((name, 4) for name in golden_arrays.NAMES)
    config = MMDiTConfig(names, num_classes=1000, feature_width=768, **parse_size(size))
    abstract = nnx.eval_shape(lambda: MMDiT(config, rngs=nnx.Rngs(0)))
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(abstract, nnx.Param)))
    w = config.width
    blocks = config.depth * (18 * w**2 + 15 * w)
    times = 257 * w + (w + 1) * w // 2 + (2 * w + 1) * w + (w + 1) * w
    ends = 65 * w + 1001 * w + 5 * w + 4 * (2 * w**2 + 2 * w + 16 * (w + 1))
    assert count == blocks + times + ends + 2048 * (w + 1) + 2048 * 2049 + 768 * 2049
    if size == "XL/2":
        assert abs(count / 1e6 - 694.4) < 0.1


@pytest.mark.parametrize("modalities, height, width", [(1, 4, 12), (2, 12, 4), (5, 6, 8)])
def test_any_number_of_modalities_and_any_size(modalities, height, width):
    config = dataclasses.replace(SMALL, modalities=tuple((f"m{i}", i + 1) for i in range(modalities)))
    x, *rest = inputs(config, 2, height, width)
    velocity, features = run(build_random(config), x, *rest)
    assert features is None
    assert [(n, v.shape) for n, v in velocity.items()] == [(n, v.shape) for n, v in x.items()]
    assert all(v.dtype == jnp.float32 and v.any() for v in velocity.values())


def test_each_input_matters_and_each_time_has_its_column():
    model = build_random(SMALL, 0.2)
    x, t, prompt = inputs(SMALL)
    base, _ = run(model, x, t, prompt)
    changed = [(x, t.at[:, m].add(0.3), prompt) for m in range(2)]
    changed += [(x, t, Prompt(prompt.class_id + 1, prompt.task)), (x, t, Prompt(prompt.class_id, prompt.task + 1))]
    outputs = [base["rgb"], *(run(model, *args)[0]["rgb"] for args in changed)]
    for i, a in enumerate(outputs):
        for b in outputs[i + 1 :]:
            assert jnp.abs(a - b).max() > 1e-3


def test_bfloat16_is_close_to_float32():
    low = dataclasses.replace(SMALL, dtype="bfloat16")
    args = inputs(SMALL)
    (exact, _), (rough, _) = run(build_random(SMALL), *args), run(build_random(low), *args)
    for name, value in exact.items():
        assert rough[name].dtype == jnp.float32
        assert 0 < jnp.abs(value - rough[name]).max() < 0.05 * jnp.abs(value).max()


def test_position_embedding_encodes_the_column_first():
    table = layers.position_embedding(3, 5, 16).reshape(3, 5, 16)
    assert (table[:1, :, :8] == table[:, :, :8]).all() and (table[:, :1, 8:] == table[:, :, 8:]).all()
    np.testing.assert_allclose(table[2, 4, [0, 4, 8, 12]], [np.sin(4), np.cos(4), np.sin(2), np.cos(2)], rtol=1e-6)


def test_patches_come_back():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    np.testing.assert_array_equal(layers.unpatchify(layers.patchify(x, 2), 2, 4, 6), x)


def test_gelu_and_its_derivatives():
    x = jnp.concatenate([jnp.linspace(-8, 8, 2001), jnp.array([-1e4, -100.0, 100.0, 1e4])])
    reference = functools.partial(jax.nn.gelu, approximate=True)
    np.testing.assert_allclose(layers.gelu(x), reference(x), atol=1e-6, rtol=1e-6)
    for mode in (jax.grad, jax.jacfwd):
        np.testing.assert_allclose(jax.vmap(mode(layers.gelu))(x), jax.vmap(jax.grad(reference))(x), atol=5e-6)
    assert jnp.isfinite(jax.vmap(jax.grad(jax.grad(layers.gelu)))(x)).all()


def test_preconditioned_form():
    """v is the linear regression on x_t plus a scaled network output; with output 0 it is the regression alone."""
    std = ((0.5, 1.0, 2.0), (0.3,))
    config = dataclasses.replace(SMALL, data_std=std)
    x, t, prompt = inputs(config)
    velocity, _ = run(build(config), x, t, prompt)
    preconditioned, _ = run(build_random(config), x, t, prompt)
    scaled, slope, scale = OrderedDict(), {}, {}
    for m, name in enumerate(config.names):
        s, time = np.array(std[m]), np.asarray(t)[:, m, None, None, None]
        q = time**2 + (1 - time) ** 2 * s**2
        slope[name], scale[name], scaled[name] = (time - (1 - time) * s**2) / q, s / np.sqrt(q), x[name] / np.sqrt(q)
    raw, _ = run(build_random(SMALL), scaled, t, prompt)
    for name in config.names:
        np.testing.assert_allclose(velocity[name], slope[name] * x[name], atol=1e-5)
        expected = slope[name] * x[name] + scale[name] * raw[name]
        np.testing.assert_allclose(preconditioned[name], expected, atol=2e-5)


def test_preconditioned_target_has_unit_variance():
    rng, s = np.random.default_rng(0), 0.4
    x0, noise = s * rng.normal(size=200_000), rng.normal(size=200_000)
    for t in (0.0, 0.3, 0.7, 1.0):
        q, x_t = t**2 + (1 - t) ** 2 * s**2, (1 - t) * x0 + t * noise
        target = (noise - x0 - (t - (1 - t) * s**2) / q * x_t) / (s / np.sqrt(q))
        np.testing.assert_allclose([target.std(), (target * x_t).mean()], [1, 0], atol=0.01)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"heads": 5}, "width=32.*heads=5"),
        ({"dtype": "float16"}, "model.dtype is 'float16'; it must be one of float32, bfloat16"),
        ({"remat": "some"}, "model.remat is 'some'; it must be one of .*full"),
        ({"feature_width": 8, "encoder_depth": 4}, "encoder_depth=4.*depth=3"),
        ({"data_std": ((1.0,), (1.0,))}, r"data_std.*\(3, 1\)"),
    ],
)
def test_bad_configs_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change)


def test_bad_inputs_are_named():
    model = nnx.eval_shape(lambda: MMDiT(SMALL, rngs=nnx.Rngs(0)))
    x, t, prompt = inputs(SMALL)
    odd = {name: value[:, :7] for name, value in x.items()}
    cases = [(odd, t, "7x8.*patch=2"), (x | {"flow": x["rgb"]}, t, "flow.*must be"), (x, t[:, :1], "one time per")]
    cases.append((x | {"depth": x["rgb"]}, t, "depth has shape"))
    cases.append((dict(sorted(x.items())), t, "OrderedDict.*in this order"))
    for x_bad, t_bad, message in cases:
        with unchecked(), pytest.raises(ValueError, match=message):
            model(x_bad, t_bad, prompt)
    for size in ("XXL/2", "XL/3", "XL"):
        with pytest.raises(ValueError, match="must be one of S, B, L, XL"):
            parse_size(size)
