"""One step: what is masked has no gradient, and neither devices nor accumulation change the result."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmgen_jax import settings
from mmgen_jax.data import pipeline
from mmgen_jax.diffusion import losses
from mmgen_jax.diffusion.conditioning import parse_mix
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.parallel import sharding
from mmgen_jax.training import setup
from mmgen_jax.training.inputs import LatentInputs, TileInputs
from mmgen_jax.training.objective import example_loss, make_example
from mmgen_jax.training.optimizer import learning_rate, make_optimizer
from mmgen_jax.training.state import ema_update
from mmgen_jax.training.step import make_training


@pytest.fixture(scope="module")
def parts(small_config, tmp_path_factory):
    """(config, architecture, objective, one batch of pixels)."""
    chosen = settings.parse(small_config())
    architecture = setup.make_architecture(chosen, tmp_path_factory.mktemp("run"), setup.open_data(chosen))
    batch = pipeline.load(chosen.data.dir, "train", chosen.data.modalities, chosen.data.image_size, range(16))
    return chosen, architecture, setup.make_objective(chosen), batch


def in_short(config, accumulate=1):
    """The settings for a run of 100 steps, with averages that follow the parameters at once."""
    return config.changed(train={"steps": 100, "accumulate": accumulate}, optim={"ema_decay": 0.9, "ema_ramp": 1.0})


def take_steps(parts, devices, accumulate):
    """Makes two steps; returns their metrics."""
    config, architecture, objective, batch = parts
    mesh = sharding.make_mesh(jax.devices()[:devices])
    training = make_training(in_short(config, accumulate), architecture, objective, mesh)
    state = training.init(jax.random.key(0))
    history = []
    for _ in range(2):
        state, metrics = training.step(state, TileInputs(architecture.autoencoder), sharding.to_global(batch, mesh))
        history.append({k: np.asarray(v) for k, v in metrics.items()})
    return history


@pytest.fixture(scope="module")
def reference(parts):
    return take_steps(parts, devices=1, accumulate=1)


@pytest.mark.parametrize("devices, accumulate", [(8, 1), (4, 4)])
def test_devices_and_accumulation_do_not_change_the_losses(parts, reference, devices, accumulate):
    for found, expected in zip(take_steps(parts, devices, accumulate), reference, strict=True):
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=2e-5, err_msg=key)


def test_unsupervised_modalities_have_exactly_zero_gradient(parts):
    config, architecture, objective, batch = parts
    rows = parse_mix(((1.0, "none", 0.0, "rgb+mask"),), architecture.modalities)
    objective = dataclasses.replace(objective, mix=rows)
    # Fresh heads are zero, and then even supervised parameters below them have no gradient.
    params = jax.tree.map(lambda p: p + 0.01, jax.jit(architecture.init)(jax.random.key(0)))

    @jax.jit
    def gradients(params):
        example = make_example(architecture, objective, TileInputs(architecture.autoencoder), batch, jax.random.key(1))
        loss = functools.partial(example_loss, architecture.apply, objective)
        return jax.grad(lambda p: loss(p, example)[0])(params)

    heads = gradients(params)["heads"]
    largest = {m: max(float(jnp.abs(g).max()) for g in jax.tree.leaves(heads[m])) for m in heads}
    assert largest["depth"] == 0 and largest["normal"] == 0
    assert largest["rgb"] > 0 and largest["mask"] > 0


def test_given_modalities_enter_clean_and_targets_are_velocities(parts):
    config, architecture, objective, batch = parts
    rows = parse_mix(((1.0, "rgb", 0.0, "all"),), architecture.modalities)
    objective, inputs = dataclasses.replace(objective, mix=rows), TileInputs(architecture.autoencoder)
    example = make_example(architecture, objective, inputs, batch, jax.random.key(1))
    clean = architecture.autoencoder.encode({"rgb": batch["rgb"].astype(np.float32) / np.float32(127.5) - 1})["rgb"]
    np.testing.assert_allclose(example.x["rgb"], clean, atol=1e-6)
    assert (np.asarray(example.weights)[:, 0] == 0).all()
    # x_t - t v = x0 on the linear path, whatever the noise.
    t = example.t[:, 1][:, None, None, None]
    depth = architecture.autoencoder.encode({"depth": batch["depth"].astype(np.float32) / np.float32(32767.5) - 1})
    np.testing.assert_allclose(example.x["depth"] - t * example.target["depth"], depth["depth"], atol=1e-5)


def test_alignment_counts_where_there_are_features_and_only_there(parts):
    config, architecture, objective, batch = parts
    model = dataclasses.replace(architecture.model, feature_width=6, projector_width=8, encoder_depth=1)
    aligned = dataclasses.replace(architecture, model=model)
    params = jax.jit(aligned.init)(jax.random.key(0))
    features = np.random.default_rng(0).normal(size=(16, 16, 6)).astype(np.float32)

    def losses_of(objective, inputs, batch):
        def losses(inputs, batch):
            example = make_example(aligned, objective, inputs, batch, jax.random.key(1))
            return example_loss(aligned.apply, objective, params, example)[1]

        return jax.jit(losses)(inputs, batch)

    moments = architecture.autoencoder.moments({m: to_array(batch[m]) for m in architecture.modalities})
    stored = batch | {m: np.asarray(x) for m, x in moments.items()} | {"features": features}
    plain = losses_of(objective, TileInputs(architecture.autoencoder), batch)
    extra = losses_of(objective, LatentInputs(architecture.autoencoder), stored)
    assert "loss/alignment" not in plain
    np.testing.assert_allclose(extra["loss/rgb"], plain["loss/rgb"], rtol=1e-5)
    assert -1 < float(extra["loss/alignment"]) < 1
    expected = plain["loss"] + objective.alignment_weight * extra["loss/alignment"]
    np.testing.assert_allclose(extra["loss"], expected, rtol=1e-5)
    told_apart = stored | {"features": losses.told_apart(features, 0.6)}
    wanted = losses_of(objective, LatentInputs(architecture.autoencoder), told_apart)
    normed = dataclasses.replace(objective, alignment_norm=0.6)
    found = losses_of(normed, LatentInputs(architecture.autoencoder), stored)
    np.testing.assert_allclose(found["loss/alignment"], wanted["loss/alignment"], atol=1e-6)


def test_label_dropout_and_its_absence(parts):
    config, architecture, objective, batch = parts
    for rate, expected in ((0.0, batch["class_id"]), (1.0, np.full(16, architecture.null_class))):
        chosen = dataclasses.replace(objective, label_dropout=rate)
        example = make_example(architecture, chosen, TileInputs(architecture.autoencoder), batch, jax.random.key(0))
        np.testing.assert_array_equal(example.prompt.class_id, expected)


def test_samples_without_a_class_have_the_null_class_and_without_rgb_no_alignment(parts):
    config, architecture, objective, batch = parts
    objective = dataclasses.replace(objective, label_dropout=0.0)
    batch = batch | {"class_id": batch["class_id"].copy(), "present": batch["present"].copy()}
    batch["class_id"][3], batch["present"][5, 0] = -1, False
    example = make_example(architecture, objective, TileInputs(architecture.autoencoder), batch, jax.random.key(0))
    assert example.prompt.class_id[3] == architecture.null_class and example.prompt.class_id[4] == batch["class_id"][4]
    weight = np.asarray(example.feature_weight)
    assert weight[5] == 0 and weight[4] == pytest.approx(1 / 15)


def test_a_step_that_is_not_finite_leaves_the_state_alone(parts):
    config, architecture, objective, batch = parts
    mesh = sharding.make_mesh(jax.devices()[:1])
    training = make_training(in_short(config), architecture, objective, mesh)
    state = training.init(jax.random.key(0))
    poisoned = jax.tree.map(jnp.array, state.params)
    poisoned["blocks"]["qkv"]["kernel"] = poisoned["blocks"]["qkv"]["kernel"].at[0, 0, 0].set(jnp.nan)
    state = dataclasses.replace(state, params=poisoned)
    before = jax.tree.map(np.array, (state.params, state.ema, state.opt_state))
    state, metrics = training.step(state, TileInputs(architecture.autoencoder), sharding.to_global(batch, mesh))
    assert float(metrics["finite"]) == 0
    jax.tree.map(np.testing.assert_array_equal, before, (state.params, state.ema, state.opt_state))


def test_learning_rate_warms_up_holds_and_decays(tiny_config):
    tiny_config.optim.update({"learning_rate": 1.0, "warmup_steps": 10, "decay_steps": 20})
    rate = [
        float(learning_rate(settings.parse(tiny_config).optim, 100)(jnp.asarray(s))) for s in (0, 4, 9, 50, 80, 90, 99)
    ]
    np.testing.assert_allclose(rate, [0.1, 0.5, 1, 1, 1, 0.5, 0.05], rtol=1e-6)


def test_ema_ramp_starts_with_the_parameters_and_ends_at_the_decay():
    ema, params = {"w": jnp.zeros(())}, {"w": jnp.ones(())}
    assert float(ema_update(ema, params, jnp.asarray(0), 0.999, 10.0)["w"]) == pytest.approx(0.9)
    assert float(ema_update(ema, params, jnp.asarray(10**6), 0.999, 10.0)["w"]) == pytest.approx(0.001, rel=1e-3)
    assert float(ema_update(ema, params, jnp.asarray(0), 0.999, 1.0)["w"]) == pytest.approx(0.001, rel=1e-3)


def test_optimizer_is_clipped_adamw(tiny_config):
    tiny_config.optim.update({"learning_rate": 0.1, "b2": 0.999, "clip_norm": 1.0})
    ours, reference = (
        make_optimizer(settings.parse(tiny_config).optim, 10),
        optax.adamw(0.1, 0.9, 0.999, 1e-8, weight_decay=0.0),
    )
    params, gradient = {"w": jnp.ones(3)}, {"w": jnp.array([3.0, 4.0, 0.0])}
    update, _ = ours.update(gradient, ours.init(params), params, norm=5.0)
    expected, _ = reference.update({"w": gradient["w"] / 5}, reference.init(params), params)
    np.testing.assert_allclose(update["w"], expected["w"], rtol=1e-6)


def test_muon_is_orthogonal_for_matrices_of_blocks_and_adam_for_all_else():
    """By the singular value decomposition of each block's matrix; five iterations get within .3 of 1."""
    rng = np.random.default_rng(0)
    shapes = {"fc1": (2, 8, 24), "proj": (2, 16, 16), "fc2": (2, 24, 8)}
    gradient = {
        "blocks": {name: {"kernel": jnp.asarray(rng.normal(size=shape), jnp.float32)} for name, shape in shapes.items()}
        | {"conv": {"kernel": jnp.asarray(rng.normal(size=(3, 3, 4, 8)), jnp.float32)}},
        "patch_embed": {"kernel": jnp.asarray(rng.normal(size=(4, 8)), jnp.float32)},
    }
    params = jax.tree.map(jnp.zeros_like, gradient)
    tx = make_optimizer(settings.Optim(name="muon", learning_rate=0.5, clip_norm=100.0), 10)
    update, _ = jax.jit(tx.update)(gradient, tx.init(params), params, norm=1.0)
    blocks = [(update["blocks"][n]["kernel"][i], gradient["blocks"][n]["kernel"][i]) for n in shapes for i in range(2)]
    blocks += [tuple(tree["blocks"]["conv"]["kernel"].reshape(36, 8) for tree in (update, gradient))]
    for found, given in blocks:
        u, _, v = np.linalg.svd(np.asarray(given), full_matrices=False)
        scaled = -np.asarray(found) / (0.5 * 0.2 * np.sqrt(max(found.shape)))
        assert np.abs(u.T @ scaled @ v.T - np.eye(len(v))).max() < 0.35
    adam = optax.adamw(0.5, 0.9, 0.999, 1e-8, weight_decay=0.0, nesterov=True)
    expected, _ = adam.update(gradient["patch_embed"], adam.init(params["patch_embed"]), params["patch_embed"])
    np.testing.assert_allclose(update["patch_embed"]["kernel"], expected["kernel"], rtol=1e-5)


@pytest.fixture
def with_holes(parts):
    """The same batch with holes in its depth: a corner of every sample, and all of sample 3."""
    batch = dict(parts[3])
    valid = np.ones(batch["depth"].shape[:3], bool)
    valid[:, :5, :5], valid[3] = False, False
    return *parts[:3], batch | {holes.key("depth"): valid}


def example_of(parts, batch):
    _, architecture, objective, _ = parts
    return make_example(architecture, objective, TileInputs(architecture.autoencoder), batch, jax.random.key(5))


def test_holes_are_left_out_of_the_loss(parts, with_holes):
    """Latent cells that touch a hole have no gradient, all others have, and a sample of holes only is absent."""
    _, architecture, objective, batch = with_holes
    example = example_of(with_holes, batch)
    side = example.target["depth"].shape[1]
    cells = np.asarray(example.valid["depth"])
    factor = batch["depth"].shape[1] // side
    first = -(-5 // factor)
    assert not cells[0, :first, :first].any() and cells[0].sum() == side**2 - first**2 and not cells[3].any()
    column = architecture.modalities.index("depth")
    assert example.weights[3, column] == 0 and example.t[3, column] == 1
    assert set(example.valid) == {"depth"}

    def loss(velocity):
        return example_loss(lambda *_: (velocity, None), objective, {}, example)[0]

    gradient = jax.grad(loss)(jax.tree.map(jnp.zeros_like, dict(example.target)))
    touched = np.asarray((gradient["depth"] != 0).any(-1))
    counted = np.asarray(example.weights[:, column] > 0)
    np.testing.assert_array_equal(touched, cells & counted[:, None, None])
    assert (np.asarray(gradient["rgb"] != 0).any((1, 2, 3)) == np.asarray(example.weights[:, 0] > 0)).all()


def test_what_is_in_a_hole_changes_no_loss_of_a_patch_autoencoder(with_holes):
    _, architecture, objective, batch = with_holes
    other = dict(batch)
    other["depth"] = np.where(batch[holes.key("depth")][..., None], batch["depth"], 65535 - batch["depth"])

    def loss(batch):
        example = example_of(with_holes, batch)
        zeros = jax.tree.map(jnp.zeros_like, dict(example.target))
        return example_loss(lambda *_: (zeros, None), objective, {}, example)[0]

    assert loss(batch) == loss(other)


def test_without_holes_the_step_is_the_same_program(parts):
    """What data sets without holes compile does not depend on there being data sets with holes."""
    _, architecture, objective, batch = parts
    example = example_of(parts, batch)
    assert example.valid == {}
    whole = batch | {holes.key("depth"): np.ones(batch["depth"].shape[:3], bool)}
    again = example_of(parts, whole)
    for m in architecture.modalities:
        np.testing.assert_array_equal(example.x[m], again.x[m])
        np.testing.assert_array_equal(example.target[m], again.target[m])
    np.testing.assert_array_equal(example.weights, again.weights)


def test_a_step_on_a_batch_with_holes(with_holes):
    for devices, accumulate in ((1, 1), (4, 4)):
        history = take_steps(with_holes, devices, accumulate)
        assert all(np.isfinite(metrics["loss"]) and metrics["finite"] == 1 for metrics in history)
        if devices == 1:
            expected = history
    for found, wanted in zip(history, expected, strict=True):
        np.testing.assert_allclose(found["loss"], wanted["loss"], rtol=2e-5)
