"""Several classes with weights: against Gaussians whose product is known, and in requests."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from annotations import unchecked

from mmgen_jax import MMGen
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.sampling import classes, classifier_free, sample
from mmgen_jax.sampling.branches import CLASS, Branches, Member
from mmgen_jax.sampling.composition import alone
from mmgen_jax.sampling.guidance import leaned, velocity
from mmgen_jax.system.errors import UsageError

# z ~ N(0, 1) without a class (2), and N(mean, 0.36) of classes 0 and 1.
MEANS, VARIANCES = np.array([0.7, -0.2, 0.0]), np.array([0.36, 0.36, 1.0])
FAST = {"steps": 2, "solver": "euler"}


def network(x, t, prompt):
    """E[noise - x0 | x_t], exact for each class."""
    mean, variance = jnp.asarray(MEANS)[prompt.class_id], jnp.asarray(VARIANCES)[prompt.class_id]
    mean, variance, time = (v.reshape(-1, 1, 1, 1) for v in (mean, variance, t))
    gain = (time - (1 - time) * variance) / ((1 - time) ** 2 * variance + time**2)
    return {"z": gain * (x["z"] - (1 - time) * mean) - mean}


def branched(weights, interval=(0.0, 1.0), arrangement=alone):
    """The velocity function of a request with these weights of classes 0, 1, ..."""
    members = {f"class {k}": Member(w, interval) for k, w in enumerate(weights)}

    def of_rows(x, t, present):
        prompt = Prompt(jnp.full(len(t), 2), jnp.zeros(len(t), int))
        for k, name in enumerate(members):
            prompt = prompt.of_class(present[name], k)
        return velocity(network, x, t, prompt)

    present, terms = classes.beside(*arrangement([CLASS], {}), members)
    return Branches(of_rows, present, terms, Latents(), Latents(), {})


X = Latents(z=jnp.array([0.4, -1.1, 2.0]).reshape(3, 1, 1, 1))


def of_class(k, t):
    return network(X, jnp.full((3, 1), t), Prompt(jnp.full(3, k), jnp.zeros(3, int)))["z"]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, -0.5), (0.25, 0.75), (0.0, 0.0), (2.0,)], ids=str)
def test_classes_are_added_to_what_there_is_without_a_class(weights):
    nothing = of_class(2, 0.4)
    expected = nothing + sum(w * (of_class(k, 0.4) - nothing) for k, w in enumerate(weights))
    made = branched(weights)(X, jnp.full((3, 1), 0.4))
    np.testing.assert_allclose(made["z"], expected, atol=1e-5)


def test_one_class_is_guidance_and_weights_that_sum_to_one_lie_between():
    t = jnp.full((3, 1), 0.4)
    guided = classifier_free(network, Prompt(jnp.zeros(3, int), jnp.zeros(3, int)), 2, 1.8)
    for arrangement in (alone, leaned):
        np.testing.assert_allclose(branched((1.8,), arrangement=arrangement)(X, t)["z"], guided(X, t)["z"], atol=1e-5)
    between = 0.3 * of_class(0, 0.4) + 0.7 * of_class(1, 0.4)
    np.testing.assert_allclose(branched((0.3, 0.7))(X, t)["z"], between, atol=1e-5)


def test_outside_the_interval_there_is_no_class_and_one_branch():
    rows, field = [], branched((1.0, -0.5), (0.3, 0.6))

    def spy(x, t, present):
        jax.debug.callback(lambda n: rows.append(int(n)), len(t))
        return field.network(x, t, present)

    spied = Branches(spy, field.present, field.terms, Latents(), Latents(), {})
    for t in (0.1, 0.5, 0.9):
        made = spied(X, jnp.full((3, 1), jnp.float32(t)))["z"]
        if t != 0.5:
            np.testing.assert_allclose(made, of_class(2, t), atol=1e-6)
    jax.effects_barrier()
    assert rows == [3, 9, 3]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, -0.4)], ids=str)
def test_particles_draw_from_the_product_of_classes(weights):
    """p_0 (p_1 / p_0)^w_1 (p_2 / p_0)^w_2, for "and" as for "not"."""
    count = 10_000
    noise = Latents(z=jax.random.normal(jax.random.key(1), (count, 1, 1, 1)))
    draw = jax.jit(lambda key: sample(branched(weights), noise, key, particles=32)["z"])
    z = np.asarray(draw(jax.random.key(2)))
    powers = np.array([*weights, 1 - sum(weights)])
    precision = (powers / VARIANCES).sum()
    assert z.var() == pytest.approx(1 / precision, rel=0.06)
    assert z.mean() == pytest.approx((powers * MEANS / VARIANCES).sum() / precision, abs=0.03)


# ---- requests ----


@pytest.fixture(scope="module")
def model(model_dir):
    return MMGen.load(model_dir)


def test_texts_and_dicts_are_weights_by_index():
    a, _ = tiny_model.build()
    names = a.facts.class_names
    assert classes.of_text("", a) == {}
    assert classes.of_text(f"{names[3]}:1+ 0 : -0.5 +{names[1]}", a) == {3: 1.0, 0: -0.5, 1: 1.0}
    found = classes.of_mapping({names[3]: np.float32(0.5), 0: 2}, a)
    assert found == {3: 0.5, 0: 2.0} and classes.of_text(classes.text(found), a) == found


@pytest.mark.parametrize(
    "given, message",
    [
        ("unicorn:1", "classes: class is 'unicorn'; allowed: 0 to 7"),
        ("0:strong", "classes is '0:strong'; allowed: names or indices joined by +, as in \"torus:1+box:-0.5\""),
        ("0:1+", "classes has ''; allowed: a name or an index"),
        ("0:1+0:2", "classes is '0:1+0:2', which has 0 twice; allowed: each class once"),
        ("0:nan", "the weight of '0' in classes is nan; it must be a number -100 to 100"),
        ({None: 1.0}, "classes has None; allowed: a name or an index"),
        ({0: 1.0, "0": 1.0}, "classes has '0' twice; allowed: each class once"),
        ({0: True}, "the weight of 0 in classes is True; it must be a number -100 to 100"),
        ({0: 101}, "the weight of 0 in classes is 101; it must be a number -100 to 100"),
        ({99: 1}, "classes: class is 99; allowed: 0 to 7"),
        (["torus"], "classes is ['torus']; allowed: a dict of class -> weight"),
    ],
)
def test_classes_that_mean_nothing_are_named(given, message):
    a, _ = tiny_model.build()
    with unchecked(), pytest.raises(UsageError, match=re.escape(message)):
        (classes.of_text if isinstance(given, str) else classes.of_mapping)(given, a)


def test_one_class_of_a_request_is_guidance_on_it(model):
    guided = model.generate(3, guidance=1.8, n=2, **FAST)
    one = model.generate(classes={3: 1.8}, n=2, **FAST)
    np.testing.assert_allclose(one["depth"], guided["depth"], atol=1e-4)
    assert one.caption.startswith(f"all modalities together; classes {model.class_names[3]} x 1.8; seed 0")


def test_other_classes_and_weights_compile_nothing(model):
    depth, draw = tiny_model.values(1)["depth"], model._sampler._draw
    made = [model.generate(classes={0: 1, 1: 1}, given={"depth": depth}, compose=True, **FAST)["normal"]]
    compiled = draw._cache_size()
    for weights in ({0: 1, 1: -0.5}, {2: 1, 3: 1}, {1: 1.0, 0: 1.0}):
        made.append(model.generate(classes=weights, given={"depth": depth}, compose=True, **FAST)["normal"])
    assert draw._cache_size() == compiled
    assert all(np.abs(made[0] - other).max() > 1e-3 for other in made[1:3])
    np.testing.assert_allclose(made[3], made[0], atol=1e-4)
