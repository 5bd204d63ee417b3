"""Average velocities of a flow map lead where the flow leads, in steps of any length."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import tiny_model
from joint_gaussian import COVARIANCE, MEAN, conditional, normal, oracle, pack

from mmgen_jax import MMGen
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling import sample
from mmgen_jax.system.errors import UsageError


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_samples_of_a_gaussian_are_its_root_times_the_noise(steps):
    """The flow of a Gaussian leads noise z to mean + S^(1/2) z, whatever the number of steps."""
    noise = normal(64)
    out = jax.jit(lambda noise: sample(oracle, noise, solver="flow_map", steps=steps))(noise)
    expected = MEAN + pack(noise) @ np.real(scipy.linalg.sqrtm(COVARIANCE))
    np.testing.assert_allclose(pack(out), expected, atol=1e-4)
    followed = jax.jit(lambda noise: sample(oracle, noise, solver="heun", steps=300))(noise)
    np.testing.assert_allclose(pack(followed), expected, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_what_is_given_stays_and_the_rest_follows_from_it(steps):
    values, noise = {"a": [0.4], "c": [0.2]}, normal(64)
    given = {m: jnp.full((64, 1, 1, 1), value[0]) for m, value in values.items()}
    run = jax.jit(lambda z: sample(oracle, z, solver="flow_map", steps=steps, given=given, given_time=0.0))
    mean, covariance, free = conditional(values)
    expected = mean + np.asarray(pack(noise))[:, free] @ np.real(scipy.linalg.sqrtm(covariance))
    np.testing.assert_allclose(np.asarray(pack(run(noise)))[:, free], expected, atol=1e-4)


def test_what_is_ignored_stays_at_noise_and_says_nothing():
    noise = normal(64)
    out = sample(oracle, noise, solver="flow_map", steps=2, ignored=("b",))
    expected = MEAN[2:] + np.asarray(pack(noise))[:, 2:] @ np.real(scipy.linalg.sqrtm(COVARIANCE[2:, 2:]))
    np.testing.assert_allclose(np.concatenate([out["a"].ravel(), out["c"].ravel()]), expected.T.ravel(), atol=1e-4)


def test_a_start_on_the_way_is_led_on_from_there():
    noise = normal(64)
    times = jnp.linspace(0.7, 0.0, 3)
    out = sample(oracle, noise, solver="flow_map", times=times)
    followed = sample(oracle, noise, solver="heun", times=jnp.linspace(0.7, 0.0, 200))
    np.testing.assert_allclose(pack(out), pack(followed), atol=1e-3)


# ---- models ----


@functools.cache
def model(decoupled=0.5):
    plain, params = tiny_model.build()
    return MMGen(dataclasses.replace(plain, model=dataclasses.replace(plain.model, decoupled=decoupled)), params)


def test_a_model_draws_by_its_average_velocities():
    """Sampling calls the network as `velocity` does, with what is given at its time in both."""
    mmgen, clean = model(), tiny_model.values(2)["rgb"]
    out = mmgen.generate(n=2, given={"rgb": clean}, wanted=["depth", "normal"], solver="flow_map", steps=1, seed=3)
    noise, latent = mmgen.noise(3, 2), mmgen.encode({"rgb": clean})["rgb"]
    x = Latents(noise | {"rgb": 0.995 * latent + 0.005 * noise["rgb"]})
    t = jnp.tile(jnp.array([0.005, 1.0, 1.0, 1.0]), (2, 1))
    r = jnp.tile(jnp.array([0.005, 0.0, 0.0, 1.0]), (2, 1))
    x = mmgen.architecture.ordered(x)
    u = mmgen.velocity(x, t, np.full(2, 8), np.ones(2, int), r)
    expected = mmgen.decode({m: x[m] - u[m] for m in ("depth", "normal")})
    for m in expected:
        np.testing.assert_allclose(out[m], expected[m], atol=1e-3)


def test_what_goes_with_average_velocities():
    """Langevin steps ask for the velocity itself, and images of any size are windows."""
    mmgen, rgb = model(), tiny_model.values(1)["rgb"]
    values = [
        mmgen.generate(solver="flow_map", steps=2, corrector=1)["rgb"],
        mmgen.generate(solver="flow_map", steps=2, order={"depth": 0.5})["rgb"],
        mmgen.generate(solver="flow_map", steps=2, start={"rgb": rgb}, start_time=0.5)["rgb"],
        mmgen.generate(solver="flow_map", steps=2, given={"rgb": np.tile(rgb, (1, 1, 2, 1))}, whole=1)["mask"],
        mmgen.generate(solver="flow_map", steps=2, class_id=0, draws=2, temperature=0.5)["rgb"],
    ]
    assert all(np.isfinite(value).all() for value in values)


SCENE = {"rgb": tiny_model.values(1)["rgb"]}


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"class_id": 0, "guidance": 2.0}, "class has a weight"),
        ({"given": SCENE, "strength": {"rgb": 0.5}}, "rgb has a weight"),
        ({"given": SCENE, "compose": True}, "rgb has a weight"),
        ({"classes": {0: 1.0, 1: 0.5}}, "class 0 has a weight"),
        ({"particles": 2}, "there are 2 particles"),
        ({"given": SCENE, "keep": {"rgb": np.eye(16) > 0}}, "a part of what is made is kept"),
        ({"guide": lambda images: images["rgb"].mean((1, 2, 3))}, "there is a guide"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
def test_what_average_velocities_do_not_tell_is_refused(asked, words):
    start = "solver is 'flow_map', which takes the model's velocity as it is, but "
    with pytest.raises(UsageError, match=re.escape(start + words)) as caught:
        model().generate(solver="flow_map", steps=2, **asked)
    assert "\n" not in str(caught.value)


def test_a_model_that_is_no_flow_map_is_named():
    with pytest.raises(UsageError, match="solver is 'flow_map', which needs a flow map, but model.decoupled .* is 0"):
        model(0.0).generate(solver="flow_map", steps=1)
    x = model(0.0).noise(0, 1)
    with pytest.raises(UsageError, match="model.decoupled is 0"):
        model(0.0).velocity(x, np.ones((1, 4)), [0], [0], np.zeros((1, 4)))
