"""Guidance rescale against its formula (Lin et al. 2024, equations 15 and 16), on x0 of the linear path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax import MMGen
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.sampling import classifier_free, sample
from mmgen_jax.sampling.branches import Branches, Term

SHAPES = {"a": (3, 2, 2, 4), "b": (3, 4, 4, 1)}
RNG = np.random.default_rng(0)
X = Latents((m, jnp.asarray(RNG.normal(size=shape), jnp.float32)) for m, shape in SHAPES.items())
V = [{m: jnp.asarray(RNG.normal(size=shape), jnp.float32) for m, shape in SHAPES.items()} for _ in range(3)]
T = np.array([[0.9, 0.3], [1.0, 0.2], [0.001, 0.6]], np.float32)
FAST = {"steps": 2, "solver": "euler"}


def network(x, t, prompt):
    """Class 1 has the first velocities, the null class 0 the second ones, whatever x is."""
    rows = (prompt.class_id == 0).reshape(-1, 1, 1, 1)
    first, second = ({m: jnp.repeat(v, len(t) // 3, axis=0) for m, v in part.items()} for part in V[:2])
    return {m: jnp.where(rows, second[m], first[m]) for m in x}


PROMPT = Prompt(jnp.ones(3, int), jnp.zeros(3, int))


@pytest.mark.parametrize("phi", [0.0, 0.7, 1.0])
def test_guidance_is_rescaled_as_the_paper_says(phi):
    made = classifier_free(network, PROMPT, 0, 3.0, rescale=phi)(X, jnp.asarray(T))
    for m, name in enumerate(SHAPES):
        time = T[:, m].reshape(-1, 1, 1, 1)
        positive, negative = (np.asarray(X[name]) - time * np.asarray(v[name]) for v in V[:2])
        guided = negative + 3.0 * (positive - negative)
        axes = (1, 2, 3)
        narrow = guided * positive.std(axes, keepdims=True) / guided.std(axes, keepdims=True)
        expected = phi * narrow + (1 - phi) * guided
        np.testing.assert_allclose(X[name] - time * made[name], expected, atol=2e-5)
        if phi == 1:
            np.testing.assert_allclose(expected.std(axes), positive.std(axes), rtol=1e-5)


def test_other_sums_are_rescaled_to_the_branches_that_they_lean_on():
    """c = (-0.7, 1.2, 0.5): the mean of the deviations of the last two, by their coefficients."""
    terms, time = (Term(1.2), Term(0.5)), np.float32(0.8)
    others = (lambda x, t: [V[1]], lambda x, t: [V[2]])
    field = Branches(lambda x, t, _: V[0], {}, terms, Latents(), Latents(), {}, others=others, rescale=1.0)
    made = field(X, jnp.full((3, 2), time))
    for name in SHAPES:
        none, first, second = (np.asarray(X[name]) - time * np.asarray(v[name]) for v in V)
        summed, axes = none + 1.2 * (first - none) + 0.5 * (second - none), (1, 2, 3)
        wanted = (1.2 * first.std(axes) + 0.5 * second.std(axes)) / 1.7
        expected = summed * (wanted / summed.std(axes)).reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(X[name] - time * made[name], expected, atol=2e-5)


def test_what_is_not_guided_or_at_its_end_stays_as_it_is():
    t = np.array([[0.9, 0.3]] * 3, np.float32)
    outside = classifier_free(network, PROMPT, 0, 3.0, (0.0, 0.5), rescale=1.0)(X, jnp.asarray(t))
    np.testing.assert_allclose(outside["a"], V[0]["a"], atol=1e-5)  # beyond the interval, while b is within it
    assert np.abs(outside["b"] - V[0]["b"]).max() > 0.1
    ended = classifier_free(network, PROMPT, 0, 3.0, rescale=1.0)(X, jnp.zeros((3, 2)))
    plain = classifier_free(network, PROMPT, 0, 3.0)(X, jnp.zeros((3, 2)))
    for name in SHAPES:
        np.testing.assert_array_equal(ended[name], plain[name])


def test_outside_the_interval_there_is_one_branch_with_rescaling_too():
    rows = []

    def spy(x, t, prompt):
        jax.debug.callback(lambda n: rows.append(int(n)), len(t))
        return network(x, t, prompt)

    field = classifier_free(spy, PROMPT, 0, 3.0, (0.3, 0.7), rescale=0.7)
    sample(field, X, times=jnp.array([1.0, 0.8, 0.5, 0.1, 0.0]))
    jax.effects_barrier()
    assert rows == [3, 3, 6, 3]


def test_rescaling_a_request(model_dir):
    model = MMGen.load(model_dir)
    request = {"class_id": 3, "n": 2, "guidance": 6.0} | FAST
    plain, again, moved = (model.generate(**request, **more) for more in ({}, {"rescale": 0.0}, {"rescale": 0.7}))
    for m in plain:
        np.testing.assert_array_equal(plain[m], again[m])
    assert np.abs(plain["depth"] - moved["depth"]).max() > 1e-3 and "guidance 6; rescale 0.7" in moved.caption
    compiled = model._sampler._draw._cache_size()
    model.generate(**request, rescale=0.3)
    assert model._sampler._draw._cache_size() == compiled
