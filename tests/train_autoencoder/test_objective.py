"""The loss of the autoencoder in closed form, and its step on one device and on eight."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.data import pipeline
from mmgen_jax.frozen.autoencoders import conv
from mmgen_jax.frozen.autoencoders.conv_layers import ConvConfig
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.train_autoencoder import objective

CONFIG = ConvConfig(NAMES, 4, 8, 1, 6)
S = objective.SMOOTH


def charbonnier(d):
    return np.sqrt(d**2 + S**2) - S


@pytest.mark.parametrize("slope, offset", [(0.0, 0.3), (0.05, 0.0), (0.2, -0.1)])
def test_the_loss_of_a_ramp(slope, offset):
    """d = offset + slope x: the differences to the right are the slope, those downwards 0."""
    change = np.broadcast_to(offset + slope * np.arange(6, dtype=np.float32)[None, :, None], (4, 6, 3))
    target = np.linspace(-1, 1, 4 * 6 * 3, dtype=np.float32).reshape(4, 6, 3)
    ones = np.ones((1, 1, 4, 6), np.float32)
    found = objective.difference(jnp.asarray(target + change)[None, None], jnp.asarray(target)[None, None], ones)
    d = offset + slope * np.arange(6)
    wanted = (charbonnier(d) + d**2).mean() + objective.EDGES * charbonnier(slope)
    np.testing.assert_allclose(found, [[wanted]], rtol=1e-4)


def test_holes_and_their_edges_do_not_count(rng):
    images = rng.uniform(-1, 1, (2, 1, 8, 8, 3)).astype(np.float32)
    valid = np.ones((2, 1, 8, 8), np.float32)
    valid[0, 0, 2:5, 3] = 0
    valid[1] = 0
    other = images.copy()
    other[valid == 0] += 7
    found = np.asarray(objective.difference(jnp.asarray(other), jnp.asarray(images), valid))
    np.testing.assert_allclose(found, 0, atol=1e-6)
    shifted = np.asarray(objective.difference(jnp.asarray(other + 0.5), jnp.asarray(images), valid))
    np.testing.assert_allclose(shifted, [[charbonnier(0.5) + 0.25], [0]], rtol=1e-3)


def batch(rng, tiles_dir, count=8):
    return pipeline.load(tiles_dir, "train", NAMES, 16, range(count))


def test_what_is_absent_or_a_hole_changes_nothing(rng, tiles_dir):
    read = batch(rng, tiles_dir) | {holes.key("depth"): np.ones((8, 16, 16), bool)}
    read["present"] = read["present"].copy()
    read["present"][:4, NAMES.index("normal")] = False
    read[holes.key("depth")][:, :8] = False
    other = {key: value.copy() for key, value in read.items()}
    other["normal"][:4] = 0
    params = jax.jit(lambda key: conv.init(CONFIG, key))(jax.random.key(0))

    @jax.jit
    def losses(read):
        example = objective.make_example(CONFIG, read, jax.random.key(1))
        return objective.example_loss(CONFIG, "float32", 0.1, params, example)

    loss, parts = losses(read)
    again, others = losses(other)
    assert float(loss) == pytest.approx(float(again), rel=1e-6)
    assert set(parts) == {"loss", "loss/size", *(f"loss/{m}" for m in NAMES)}
    size = objective.PRIOR * float(parts["loss/size"])
    assert float(loss) == pytest.approx(np.mean([float(parts[f"loss/{m}"]) for m in NAMES]) + size, rel=1e-5)
    assert parts["loss/normal"] == pytest.approx(float(others["loss/normal"]), rel=1e-6)


def chosen(**train) -> Settings:
    small = {"batch": 8, "steps": 4, "sample_every": 0}
    return dataclasses.replace(
        Settings().changed(
            train=small | train,
            data={"image_size": 16},
            autoencoder={"name": "conv", "factor": 4, "width": 8, "blocks": 1, "channels": 6},
            optim={"learning_rate": 1e-3},
        )
    )


@pytest.mark.parametrize("mesh", [{}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_devices_do_not_change_a_step(rng, tiles_dir, mesh):
    read, found = batch(rng, tiles_dir), []
    for one in (sharding.make_mesh(jax.devices()[:1]), sharding.make_mesh(**mesh)):
        training = objective.make_training(chosen(), CONFIG, one)
        state = training.init(jax.random.key(0))
        for _ in range(2):
            state, metrics = training.step(state, (), sharding.to_global(read, one))
        found.append((jax.tree.map(np.asarray, state.params), {k: float(v) for k, v in metrics.items()}))
    for name, value in found[0][1].items():
        assert found[1][1][name] == pytest.approx(value, rel=1e-4), name
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), found[0][0], found[1][0])


def test_parts_of_a_batch_add_up(rng, tiles_dir):
    read, found = batch(rng, tiles_dir), []
    for parts in (1, 2):
        training = objective.make_training(chosen(accumulate=parts), CONFIG, sharding.make_mesh(jax.devices()[:1]))
        metrics = training.step(training.init(jax.random.key(0)), (), read)[1]
        found.append({k: float(v) for k, v in metrics.items()})
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4), name
