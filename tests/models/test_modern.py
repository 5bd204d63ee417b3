"""Modern blocks against formulas of their parts, PyTorch's modules, and themselves on meshes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from flax import nnx

from mmgen_jax.models import flops, modern
from mmgen_jax.models.layout import Layout
from mmgen_jax.models.mmdit import MMDiTConfig, parse_size
from mmgen_jax.parallel import sharding
from mmgen_jax.parallel.placement import single
from mmgen_jax.system.errors import UsageError

ROWS = 8


def model(**changes):
    """The tiny model of modern blocks, with a projector, and random parameters."""
    plain, _ = tiny_model.build()
    changes = {"width": 32, "heads": 4, "feature_width": 6, "projector_width": 8, "encoder_depth": 1} | changes
    a = dataclasses.replace(plain, model=dataclasses.replace(plain.model, recipe="modern", **changes))
    return a, tiny_model.random(a, 0)


def test_scores_depend_on_differences_of_positions_alone():
    """What positional rotation is for: q of one place times k of another changes with their offset, not the place."""
    rows, columns, width = 5, 6, 16
    q, k = (jax.random.normal(jax.random.key(i), (width,)) for i in (0, 1))
    turns = modern.angles(rows, columns, width)
    everywhere = [modern.rotate(jnp.broadcast_to(x, (1, rows * columns, 1, width)), turns)[0, :, 0] for x in (q, k)]
    scores = np.asarray(everywhere[0] @ everywhere[1].T).reshape(rows, columns, rows, columns)
    for dy, dx in ((0, 0), (2, 1), (0, 3), (4, 0)):
        offset = [scores[y, x, y + dy, x + dx] for y in range(rows - dy) for x in range(columns - dx)]
        np.testing.assert_allclose(offset, offset[0], rtol=1e-4, atol=1e-4)
    assert np.ptp([scores[0, 0, y, x] for y in range(rows) for x in range(columns)]) > 1


def test_rotation_is_that_of_complex_numbers():
    rows, columns, width = 3, 4, 8
    x = np.random.default_rng(0).normal(size=(2, rows * columns, 3, width)).astype(np.float32)
    speeds = 100.0 ** (-np.arange(2) / 2)
    turned = np.array([[np.r_[y * speeds, z * speeds] for z in range(columns)] for y in range(rows)]).reshape(-1, 4)
    expected = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * turned)[None, :, None]
    found = modern.rotate(jnp.asarray(x), modern.angles(rows, columns, width))
    np.testing.assert_allclose(found, np.concatenate([expected.real, expected.imag], -1), rtol=1e-5, atol=1e-5)


def test_norm_is_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="needs ./launch/setup.sh --experts")
    x = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    expected = torch.nn.functional.rms_norm(torch.from_numpy(x), (7,), eps=modern.EPS).numpy()
    np.testing.assert_allclose(modern.root_mean_square(jnp.asarray(x)), expected, rtol=1e-6)


def block_by_hand(p, x, first, own_values, condition, heads, turns):
    """The block in float64 NumPy, sample by sample and head by head."""

    def layer(name, y):
        return y @ p[name]["kernel"] + p[name]["bias"]

    def rms(y):
        return y / np.sqrt((y**2).mean(-1, keepdims=True) + modern.EPS)

    def turned(y):
        z = (y[:, : y.shape[1] // 2] + 1j * y[:, y.shape[1] // 2 :]) * np.exp(1j * turns)
        return np.concatenate([z.real, z.imag], 1)

    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = np.split(layer("adaln", condition), 6)
    q, k, v = np.split(layer("qkv", rms(x) * (1 + scale_a) + shift_a), 3, 1)
    share, out = 1 / (1 + np.exp(-p["own"])), []
    for h in range(heads):
        cut = slice(h * x.shape[1] // heads, (h + 1) * x.shape[1] // heads)
        values = v[:, cut] if own_values else share * v[:, cut] + (1 - share) * first[:, cut]
        scores = turned(rms(q[:, cut])) @ turned(rms(k[:, cut])).T / np.sqrt(values.shape[1])
        weights = np.exp(scores - scores.max(1, keepdims=True))
        out.append(weights / weights.sum(1, keepdims=True) @ values)
    x = x + gate_a * layer("proj", np.concatenate(out, 1))
    y = rms(x) * (1 + scale_m) + shift_m
    gate = layer("gate", y)
    return x + gate_m * layer("fc2", gate / (1 + np.exp(-gate)) * layer("fc1", y)), v


def test_blocks_compute_the_formulas():
    a, params = model()
    heads, turns = a.model.heads, modern.angles(2, 3, 8)
    rng = np.random.default_rng(0)
    x, condition = rng.normal(size=(2, 6, 32)), rng.normal(size=(2, 32))
    first = rng.normal(size=(2, 6, 32))
    fresh = modern.ModernBlock(32, a.model.mlp_width, jnp.float32, rngs=nnx.Rngs(0))
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), params["blocks"])
    block = nnx.merge(nnx.split(fresh)[0], one)
    exact = jax.tree.map(np.float64, one)
    for is_first in (True, False):
        found, memory = block(
            jnp.float32(x),
            jnp.float32(first).reshape(2, 6, heads, -1),
            jnp.asarray(is_first),
            jnp.float32(condition),
            heads,
            turns,
            single(),
        )
        for i in range(2):
            expected, values = block_by_hand(exact, x[i], first[i], is_first, condition[i], heads, turns)
            np.testing.assert_allclose(found[i], expected, rtol=2e-4, atol=2e-4)
            np.testing.assert_allclose(memory[i].reshape(6, -1), values if is_first else first[i], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sizes", [(4, 1, 1), (1, 4, 1), (1, 1, 4), (1, 2, 2)])
def test_outputs_and_gradients_on_a_mesh_are_those_of_one_device(sizes):
    a, params = model()
    layout = Layout(a, sharding.make_mesh(jax.devices()[: int(np.prod(sizes))], *sizes))

    def gradients(apply, params, x, t, prompt):
        def loss(params):
            velocity, features = apply(params, x, t, prompt)
            return sum(jnp.square(v).sum() for v in velocity.values()) + jnp.square(features).sum()

        value, grads = jax.value_and_grad(loss)(params)
        return grads, {"loss": value}

    expected = jax.jit(functools.partial(gradients, a.apply))(params, *tiny_model.inputs(a, ROWS))
    placed = jax.device_put(params, sharding.state_shardings(layout.mesh, params))

    def local(apply, params, example, _):
        return gradients(apply, params, *example)

    example = jax.device_put(tiny_model.inputs(a, ROWS), sharding.batched(layout.mesh))
    found = jax.jit(functools.partial(layout.gradients, local))(placed, example)
    for (path, one), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        error = float(np.abs(np.asarray(one) - other).max() / (np.abs(other).max() + 1e-12))
        assert error < 2e-5, (sharding.path_name(path), error)


def test_it_is_a_flow_map_as_others_are():
    a, params = model(decoupled=0.5)
    x, t, prompt = tiny_model.inputs(a, ROWS)
    velocity, _ = jax.jit(a.apply)(params, x, t, prompt, r=t)
    plain, _ = jax.jit(a.apply)(params, x, t, prompt)
    jax.tree.map(np.testing.assert_array_equal, velocity, plain)
    average = functools.partial(a.apply, params, x, t, prompt, forward=True)
    _, slope = jax.jvp(lambda r: average(r=r)[0], (0.5 * t,), (jnp.ones_like(t),))
    assert all(float(jnp.abs(s).max()) > 1e-4 for s in slope.values())


def test_parameters_are_as_many_as_the_published_ones():
    """At XL/2 the MLPs differ by what is lost in rounding the hidden width."""
    sizes = {}
    for recipe in ("published", "modern"):
        config = MMDiTConfig((("rgb", 4),), num_classes=10, recipe=recipe, **parse_size("XL/2"))
        sizes[recipe] = flops.network_flops(config, 256)
    assert sizes["modern"] == pytest.approx(sizes["published"], rel=0.001)


def test_heads_that_cannot_turn_are_named():
    with pytest.raises(UsageError, match="width=24: must be a multiple of 4 in each of heads=4, not 6"):
        model(width=24)
