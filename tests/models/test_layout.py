"""On any mesh the network computes what it computes on one device: outputs, losses and every gradient."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from mmgen_jax import settings
from mmgen_jax.models import attention
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import sharding
from mmgen_jax.parallel.placement import single
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import setup
from mmgen_jax.training.inputs import TileInputs
from mmgen_jax.training.objective import example_loss, make_example
from mmgen_jax.training.step import accumulated_gradients, make_training

MESHES = [(8, 1, 1), (1, 8, 1), (2, 4, 1), (1, 1, 4), (2, 2, 2), (1, 4, 2)]
ROWS = 16


def mesh_of(sizes):
    return sharding.make_mesh(jax.devices()[: int(np.prod(sizes))], *sizes)


def make_case(**changes):
    """(architecture with a projector, its random parameters, objective, noised example with features, batch)."""
    architecture, _ = tiny_model.build()
    model = dataclasses.replace(
        architecture.model,
        width=32,
        heads=4,
        feature_width=6,
        projector_width=8,
        encoder_depth=1,
        depth=2,
        **changes,
    )
    architecture = dataclasses.replace(architecture, model=model)
    shapes = jax.eval_shape(architecture.init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.float32(0.2 * rng.normal(size=leaf.shape)), shapes)
    objective = setup.make_objective(settings.parse(tiny_model.config()))
    pixels = tiny_model.pixels(ROWS, "train")
    batch = pixels | {"class_id": np.arange(ROWS, dtype=np.int32) % 3, "present": np.ones((ROWS, 4), bool)}
    make = jax.jit(functools.partial(make_example, architecture, objective))
    example = make(TileInputs(architecture.autoencoder), batch, jax.random.key(1))
    features = jnp.float32(rng.normal(size=(ROWS, 16, 6)))
    return architecture, params, objective, dataclasses.replace(example, features=features), batch


@pytest.fixture(scope="module")
def case():
    return make_case()


@pytest.fixture(scope="module")
def map_case():
    """The same of a flow map that takes the scale of guidance, whose loss takes a derivative in forward mode."""
    return make_case(decoupled=0.5, guided=4.0)


def local_gradients(architecture, objective, accumulate, apply, params, example, _=None):
    loss = functools.partial(example_loss, apply, objective)
    return accumulated_gradients(loss, params, example, accumulate)


@pytest.fixture(scope="module")
def wanted(case):
    return on_one_device(case)


@pytest.fixture(scope="module")
def map_wanted(map_case):
    return on_one_device(map_case)


def on_one_device(case):
    architecture, params, objective, example, _ = case
    local = functools.partial(local_gradients, architecture, objective, 1, architecture.apply)
    return jax.jit(local)(params, example)


def assert_close(found, wanted, tolerance=2e-5):
    """Compares every leaf, relative to its largest entry."""
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(wanted), strict=True):
        error = float(np.abs(np.asarray(a) - np.asarray(b)).max() / (np.abs(np.asarray(b)).max() + 1e-12))
        assert error < tolerance, (sharding.path_name(path), error)


@pytest.mark.parametrize(("sizes", "accumulate"), [*((sizes, 1) for sizes in MESHES), ((2, 2, 2), 4)])
def test_losses_and_all_gradients_are_those_of_one_device(case, wanted, sizes, accumulate):
    architecture, params, objective, example, _ = case
    layout = Layout(architecture, mesh_of(sizes))
    params = jax.device_put(params, sharding.state_shardings(layout.mesh, params))
    local = functools.partial(local_gradients, architecture, objective, accumulate)
    example = jax.device_put(example, sharding.batched(layout.mesh))
    grads, metrics = jax.jit(functools.partial(layout.gradients, local))(params, example)
    assert_close(grads, wanted[0])
    assert_close(metrics, wanted[1])


@pytest.mark.parametrize("sizes", [(1, 4, 2)])
def test_a_convolution_as_projector_is_that_of_one_device(sizes):
    convolved = make_case(projector="conv")
    test_losses_and_all_gradients_are_those_of_one_device(convolved, on_one_device(convolved), sizes, 1)


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 8, 1), (2, 2, 2)])
def test_flow_maps_have_the_losses_and_gradients_of_one_device(map_case, map_wanted, monkeypatch, sizes, platform):
    """No rule for gradients stands in the way of the derivative in forward mode, on any mesh."""
    monkeypatch.setattr(Layout, "platform", platform)
    test_losses_and_all_gradients_are_those_of_one_device(map_case, map_wanted, sizes, 1)
    assert all(float(map_wanted[1][f"average/{m}"]) > 0 for m in map_case[0].modalities)


@pytest.mark.parametrize("sizes", [(2, 2, 2)])
def test_average_velocities_are_those_of_one_device(map_case, sizes):
    architecture, params, _, example, _ = map_case
    layout = Layout(architecture, mesh_of(sizes))
    inputs = (example.x, example.t, example.prompt)
    expected = jax.jit(architecture.apply)(params, *inputs, r=example.r)
    placed = jax.device_put(params, sharding.state_shardings(layout.mesh, params))
    found = jax.jit(layout.apply)(placed, *jax.device_put((*inputs, example.r), sharding.batched(layout.mesh)))
    assert_close(found, expected)


def test_derivatives_in_forward_mode_are_taken_of_attention_by_xla():
    """The kernel for TPUs has none."""
    assert attention.choose(single(forward=True).attention, "tpu", 256, 64) is attention.xla
    assert attention.choose(single().attention or "auto", "tpu", 256, 64) is attention.pallas


@pytest.mark.parametrize("sizes", [(1, 8, 1), (1, 4, 2)])
def test_what_is_arranged_for_tpus_gives_the_same(case, wanted, monkeypatch, sizes):
    """Sums that are cut instead of reduce-scatters, kernels gathered a second time for their gradients."""
    monkeypatch.setattr(Layout, "platform", "tpu")
    test_losses_and_all_gradients_are_those_of_one_device(case, wanted, sizes, 1)


@pytest.mark.parametrize("sizes", MESHES)
def test_velocities_are_those_of_one_device(case, sizes):
    architecture, params, _, example, _ = case
    layout = Layout(architecture, mesh_of(sizes))
    inputs = (example.x, example.t, example.prompt)
    expected = jax.jit(architecture.apply)(params, *inputs)
    placed = jax.device_put(params, sharding.state_shardings(layout.mesh, params))
    assert_close(jax.jit(layout.apply)(placed, *jax.device_put(inputs, sharding.batched(layout.mesh))), expected)


@pytest.mark.parametrize("remat", ["names", "full"])
def test_recomputing_does_not_change_gradients(case, wanted, remat):
    architecture, params, objective, example, _ = case
    model = dataclasses.replace(architecture.model, remat=remat, unroll=2)
    layout = Layout(dataclasses.replace(architecture, model=model), mesh_of((2, 4, 1)))
    local = functools.partial(local_gradients, architecture, objective, 1)
    grads, _ = jax.jit(functools.partial(layout.gradients, local))(params, example)
    assert_close(grads, wanted[0])


@pytest.fixture(scope="module")
def trained(case):
    """(sizes of a mesh, optimizer) -> the state after four steps, and the metrics of each."""
    architecture, _, objective, _, batch = case

    @functools.cache
    def train(sizes, optimizer):
        config = tiny_model.config()
        config.optim.name = optimizer
        config.optim.warmup_steps = config.optim.decay_steps = 0
        config.optim.ema_decay, config.train.steps = 0.9, 100
        mesh = mesh_of(sizes)
        training = make_training(settings.parse(config), architecture, objective, mesh)
        state = training.init(jax.random.key(0))
        history = []
        for _ in range(4):
            state, metrics = training.step(state, TileInputs(architecture.autoencoder), sharding.to_global(batch, mesh))
            history.append({k: np.asarray(metrics[k]) for k in ("loss", "grad_norm", "update_norm", "param_norm")})
        return state, history

    return train


@pytest.mark.parametrize(
    ("sizes", "optimizer"), [((8, 1, 1), "adamw"), ((1, 8, 1), "adamw"), ((2, 2, 2), "adamw"), ((2, 2, 2), "muon")]
)
def test_training_is_that_of_one_device(trained, sizes, optimizer):
    state, history = trained(sizes, optimizer)
    for found, expected in zip(history, trained((1, 1, 1), optimizer)[1], strict=True):
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=5e-4, err_msg=key)
    if sizes[1] == 8:  # weights, moments and averages are split, none is whole
        for tree in (state.params, state.ema, state.opt_state[1][0].mu, state.opt_state[1][0].nu):
            kernel = tree["blocks"]["fc1"]["kernel"]
            assert kernel.addressable_shards[0].data.shape == (2, 4, 128)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(UsageError, match="data=3, fsdp=1, tensor=1; the product must be the number of devices, 8"):
        sharding.make_mesh(None, 3)
    with pytest.raises(UsageError, match="at most one may be -1"):
        sharding.make_mesh(None, -1, -1)
    architecture, _ = tiny_model.build()
    with pytest.raises(UsageError, match="config key mesh.tensor is 4; it must divide the heads, 2"):
        Layout(architecture, mesh_of((2, 1, 4)))
