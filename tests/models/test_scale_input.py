"""A network that takes the scale of guidance is the plain one at scale 1, and samples with one evaluation a step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from mmgen_jax import MMGen, settings
from mmgen_jax.checkpoints import weights
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.sampling.options import Options, plan
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import scale_embed

ROWS = 4


def guided(largest=4.0, **changes):
    """The tiny model with the scale as an input, and its random parameters."""
    plain, _ = tiny_model.build()
    a = dataclasses.replace(plain, model=dataclasses.replace(plain.model, guided=largest, **changes))
    return a, tiny_model.random(a, 0)


def told(prompt, scale):
    return dataclasses.replace(prompt, scale=jnp.full(ROWS, scale))


def test_a_scale_of_1_is_the_plain_network_and_others_are_not():
    a, params = guided()
    plain, _ = tiny_model.build()
    x, t, prompt = tiny_model.inputs(a, ROWS)
    rest = {name: part for name, part in params.items() if name != scale_embed.NAME}
    expected = jax.jit(plain.apply)(rest, x, t, prompt)[0]
    for same in (prompt, told(prompt, 1.0)):
        jax.tree.map(np.testing.assert_array_equal, jax.jit(a.apply)(params, x, t, same)[0], expected)
    found = jax.jit(a.apply)(params, x, t, told(prompt, 2.0))[0]
    assert all(np.abs(found[m] - expected[m]).max() > 1e-3 for m in found)


def test_weights_of_a_plain_model_make_at_any_scale_what_they_made():
    a, _ = guided()
    plain, params = tiny_model.build()
    fitted = scale_embed.fit(params, a)
    weights.check_params(fitted, a, "test")
    x, t, prompt = tiny_model.inputs(a, ROWS)
    expected = jax.jit(plain.apply)(params, x, t, prompt)[0]
    jax.tree.map(np.testing.assert_array_equal, jax.jit(a.apply)(fitted, x, t, told(prompt, 3.0))[0], expected)
    jax.tree.map(np.testing.assert_array_equal, scale_embed.fit(fitted, plain), params)
    own = guided()[1]
    assert scale_embed.fit(own, a)[scale_embed.NAME] is own[scale_embed.NAME]


def test_a_scale_for_a_network_that_takes_none_is_named():
    plain, params = tiny_model.build()
    x, t, prompt = tiny_model.inputs(plain, ROWS)
    with pytest.raises(UsageError, match=r"model.guided is 0; .* trained with it above 1"):
        plain.apply(params, x, t, told(prompt, 2.0))
    for bad in (1.0, 0.5, -1, 101):
        with pytest.raises(UsageError, match=r"model.guided is .*; (it )?must be a number above 1 to 100, or 0"):
            settings.check(settings.Settings().changed(model={"guided": bad}))


# ---- sampling ----


@functools.cache
def model(decoupled=0.0):
    return MMGen(*guided(decoupled=decoupled))


def test_samples_follow_the_network_at_this_scale():
    """One Euler step from the same noise, of the network that is told the scale."""
    mmgen = model()
    out = mmgen.generate(n=2, class_id=1, guidance=3.0, solver="euler", steps=1, seed=3)
    x = mmgen.architecture.ordered(mmgen.noise(3, 2))
    prompt = Prompt(np.full(2, 1), np.zeros(2, int), jnp.full(2, 3.0))
    v, _ = jax.jit(mmgen.architecture.apply)(mmgen._params, x, jnp.ones((2, 4)), prompt)
    expected = mmgen.decode(Latents((m, x[m] - v[m]) for m in x))
    for m in expected:
        np.testing.assert_allclose(out[m], expected[m], atol=1e-3)


def test_flow_maps_are_guided_too():
    plain, strong = (model(0.5).generate(class_id=1, guidance=w, solver="flow_map", steps=2)["rgb"] for w in (1.0, 3.0))
    assert np.isfinite(strong).all() and np.abs(plain - strong).max() > 1e-3
    with pytest.raises(UsageError, match="class has a weight"):
        model(0.5).generate(class_id=1, guidance=5.0, solver="flow_map", steps=2)  # more than it was trained for


@pytest.mark.parametrize(
    "changes, inside",
    [
        ({"guidance": 3.0}, True),
        ({"guidance": 4.0, "steps": 3}, True),
        ({"guidance": 4.5}, False),
        ({"guidance": 0.5}, False),
        ({"guidance": 3.0, "guidance_interval": (0.1, 0.9)}, False),
        ({"guidance": 3.0, "rescale": 0.5}, False),
        ({"guidance": 3.0, "compose": True}, False),
        ({"guidance": 3.0, "autoguidance": 2.0}, False),
        ({"guidance": 3.0, "particles": 4}, False),
    ],
)
def test_only_what_the_network_was_trained_for_needs_no_branch(changes, inside):
    choices, dials = plan(Options(**changes), (), ("rgb", "depth"), True, largest=4.0)
    assert choices.guided == inside and ("class" in dials.weights) != inside
    assert bool(choices.members) != inside and dials.scale == changes["guidance"]
    assert not plan(Options(**changes), (), ("rgb", "depth"), True)[0].guided


def test_stronger_guidance_than_it_was_trained_for_is_that_of_two_branches():
    mmgen, plain = model(), MMGen(*tiny_model.build())
    mine = {name: part for name, part in mmgen._params.items() if name != scale_embed.NAME}
    plain = MMGen(plain.architecture, mine)
    found, expected = (m.generate(class_id=1, guidance=6.0, solver="euler", steps=2)["depth"] for m in (mmgen, plain))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_fresh_parameters_do_not_look_at_the_scale():
    a, _ = guided()
    fresh = jax.jit(a.init)(jax.random.key(0))
    assert isinstance(fresh, dict) and not np.any(fresh[scale_embed.NAME]["linear"]["kernel"])
