"""Errors of images that one call predicts: what they are on known images, and that training makes them small."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax import settings
from mmgen_jax.data import pipeline
from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.frozen.autoencoders.identity import Identity
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.parallel import sharding
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import decoded, setup
from mmgen_jax.training.inputs import TileInputs
from mmgen_jax.training.objective import Example
from mmgen_jax.training.step import make_training

EVERYWHERE = np.ones((2, 4, 4), bool)
PALETTE = Facts(palette=np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8), regions=("a", "b", "c"))


def discrepancy(m, array, truth, where=EVERYWHERE, facts=PALETTE):
    return np.asarray(MODALITIES[m].discrepancy(jnp.asarray(array), jnp.asarray(truth), jnp.asarray(where), facts))


def test_depth_is_right_up_to_a_scale_and_a_shift(rng):
    truth = rng.uniform(-1, 1, (2, 4, 4, 1))
    np.testing.assert_allclose(discrepancy("depth", 0.3 * truth - 0.2, truth), 0, atol=1e-5)
    upside_down = discrepancy("depth", -truth, truth)  # no better than its mean
    values = (truth[..., 0] + 1) / 2
    flat = np.abs(values - values.mean((1, 2), keepdims=True)) / MODALITIES["depth"].wrong
    np.testing.assert_allclose(upside_down, flat, rtol=1e-5)
    where = EVERYWHERE.copy()
    where[:, 0] = False
    spoilt = np.where(where[..., None], 0.3 * truth - 0.2, 50)
    np.testing.assert_allclose(discrepancy("depth", spoilt, truth, where)[where], 0, atol=1e-5)


def test_normals_by_their_angle_and_colours_by_their_difference(rng):
    x, y = np.zeros((2, 2, 4, 4, 3))
    x[..., 0], y[..., 1] = 0.5, 1  # of any length
    np.testing.assert_allclose(discrepancy("normal", x, y), 1, atol=1e-6)
    np.testing.assert_allclose(discrepancy("normal", x + y / 2, x), 1 - np.sqrt(0.5), atol=1e-5)
    colours = rng.uniform(-1, 1, (2, 4, 4, 3))
    np.testing.assert_allclose(discrepancy("rgb", colours + 0.1, colours), 0.05, rtol=1e-4)


def test_regions_by_cross_entropy(rng):
    names = rng.integers(0, 3, (2, 4, 4))
    truth = PALETTE.palette[names] / 127.5 - 1
    assert discrepancy("mask", truth, truth).max() < 1e-3
    between = (PALETTE.palette[[0, 1]].mean(0) / 127.5 - 1) + np.zeros((2, 4, 4, 3))
    one_of_two = discrepancy("mask", between, PALETTE.palette[np.ones((2, 4, 4), int)] / 127.5 - 1)
    np.testing.assert_allclose(one_of_two, np.log(2), rtol=2e-3)  # blue is far from both
    no_names = discrepancy("mask", truth + 0.1, truth, facts=Facts())
    np.testing.assert_allclose(no_names, 0.05, rtol=1e-4)


@pytest.mark.parametrize("m", list(MODALITIES))
def test_gradients_are_finite_even_where_nothing_is_wrong(m):
    flat = jnp.zeros((2, 4, 4, MODALITIES[m].channels))
    for facts in (PALETTE, Facts()):
        gradient = jax.grad(lambda x, facts=facts: MODALITIES[m].discrepancy(x, flat, EVERYWHERE, facts).sum())(flat)
        assert jnp.isfinite(gradient).all()


def example_of(task, valid=None) -> tuple[Example, Latents]:
    """Two samples of rgb and depth at different times, and the velocity that leads to their images."""
    keys = jax.random.split(jax.random.key(0), 4)
    sizes = {"rgb": 12, "depth": 4}
    clean = Latents(
        (m, 0.9 * jnp.tanh(jax.random.normal(keys[i], (2, 2, 2, k)))) for i, (m, k) in enumerate(sizes.items())
    )
    t = jnp.array([[0.0, 1.0], [0.0, 0.4]])
    x, target = Latents(), Latents()
    for i, m in enumerate(clean):
        noise = jax.random.normal(keys[2 + i], clean[m].shape)
        x[m], target[m] = flow.interpolate(flow.LINEAR, clean[m], noise, t[:, i])
    prompt = Prompt(class_id=jnp.zeros(2, int), task=jnp.asarray(task))
    weights = jnp.ones((2, 2)) / 2
    return Example(x, target, t, None, prompt, weights, valid or {}, None, jnp.zeros(2)), target


def test_the_velocity_leads_to_the_truth_at_all_times_and_other_tasks_do_not_count():
    pixels = Identity(("rgb", "depth"), 2)
    example, velocity = example_of([1, 1])
    np.testing.assert_allclose(decoded.errors(pixels, Facts(), flow.LINEAR, example, velocity), 0, atol=1e-5)
    wrong = Latents((m, jnp.zeros_like(v)) for m, v in velocity.items())
    found = np.asarray(decoded.errors(pixels, Facts(), flow.LINEAR, example, wrong))
    assert (found[:, 1] > 0.1).all() and found[0, 0] == found[1, 0] == 0  # rgb is given clean: it has no way to go
    for task, counted in (([0, 1], [False, True]), ([2, 1], [False, True])):
        found = decoded.errors(pixels, Facts(), flow.LINEAR, example_of(task)[0], wrong)
        np.testing.assert_array_equal(np.asarray(found)[:, 1] > 0, counted)
    cells = np.ones((2, 2, 2), bool)
    cells[0, 0] = cells[1] = False
    holed, _ = example_of([1, 1], {"depth": cells})
    spoilt = velocity | {"depth": jnp.where(cells[..., None], velocity["depth"], 7.0)}
    np.testing.assert_allclose(decoded.errors(pixels, Facts(), flow.LINEAR, holed, spoilt), 0, atol=1e-5)


@pytest.fixture
def one_call(tiny_config):
    """What is learned from rgb at pure noise, with errors of decoded images."""
    tiny_config.objective.update({"decoded_weight": 1.0, "mix": ((1.0, "rgb", 0.0, "all"),), "time": "noise"})
    return tiny_config


def test_steps_tell_and_lessen_them_and_devices_do_not_change_them(one_call, tmp_path):
    chosen = settings.parse(one_call)
    architecture = setup.make_architecture(chosen, tmp_path, setup.open_data(chosen))
    batch = pipeline.load(chosen.data.dir, "train", chosen.data.modalities, chosen.data.image_size, range(16))
    objective, found = setup.make_objective(chosen), []
    for devices, accumulate in ((1, 1), (4, 2)):
        mesh, few = sharding.make_mesh(jax.devices()[:devices]), chosen.changed(train={"accumulate": accumulate})
        training = make_training(few.changed(optim={"learning_rate": 3e-3}), architecture, objective, mesh)
        state, told = training.init(jax.random.key(0)), []
        for _ in range(8):
            state, metrics = training.step(state, TileInputs(architecture.autoencoder), sharding.to_global(batch, mesh))
            told.append([float(metrics[f"decoded/{m}"]) for m in architecture.modalities])
        found.append(told)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)
    first, last = np.array(found[0])[[0, -1]]
    assert first[0] == last[0] == 0 and (last[1:] < first[1:]).all() and last.sum() < 0.9 * first.sum()  # rgb is given


def test_a_model_without_rgb_has_none(one_call):
    one_call.data.modalities, one_call.autoencoder.components = ("depth", "mask"), (4, 8)
    one_call.objective.update({"loss_weights": (), "mix": ((1.0, "depth", 0.0, "all"),)})
    with pytest.raises(UsageError, match="objective.decoded_weight is 1.0, but data.modalities has no rgb; allowed: 0"):
        setup.make_objective(settings.parse(one_call))
