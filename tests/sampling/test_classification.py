"""Zero-shot classification against Bayes' rule on mixtures of Gaussians, and of a model."""

import functools
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from scipy import special

from mmgen_jax.api import MMGen
from mmgen_jax.sampling.classification import Effort, calibration_error, classify, fit_temperature
from mmgen_jax.sampling.denoising import weighted_errors
from mmgen_jax.system.errors import UsageError

# Each class is a Gaussian N(mean, scale^2 I) of six numbers in two modalities.
rng = np.random.default_rng(3)
SHAPES = OrderedDict(b=(1, 2, 2), a=(1, 1, 2))
SIZE = 6
MEANS, SCALES = 0.5 * rng.normal(size=(4, SIZE)), np.array([0.5, 0.8, 1.0, 0.7])
NAMES = tuple("wxyz")
N = 48
TRUE = np.arange(N) % 4
X0 = MEANS[TRUE] + SCALES[TRUE, None] * rng.normal(size=(N, SIZE))


def apart(flat):
    """The two modalities of rows of six numbers."""
    parts = jnp.split(jnp.asarray(flat, jnp.float32), [4], axis=1)
    return OrderedDict((m, x.reshape(-1, *shape)) for x, (m, shape) in zip(parts, SHAPES.items(), strict=True))


def joined(x):
    return jnp.concatenate([value.reshape(len(value), -1) for value in x.values()], 1)


@jax.jit
def rows(x0, mean, scale, noise, t):
    def velocity_fn(x, times):
        time = times[:, :1]
        residual = joined(x) - (1 - time) * mean
        variance = ((1 - time) * scale) ** 2 + time**2
        return apart(time * residual / variance - mean - (1 - time) * scale**2 * residual / variance)

    return sum(e.sum((1, 2)) for e in weighted_errors(velocity_fn, apart(x0), apart(noise), t).values())


def errors(draws, seed=0):
    """Errors of exact velocities; noise and time of a draw depend on the sample and the draw, not on the class."""
    chosen = np.random.default_rng(seed).normal(size=(draws.number.max() + 1, SIZE + 1))[draws.number]
    t = draws.low + draws.width * special.ndtr(chosen[:, -1])
    c = draws.choice
    return np.asarray(rows(X0[draws.sample], MEANS[c], SCALES[c, None], chosen[:, :-1], np.maximum(t, 1e-4)))


def bayes(t):
    """Mean of log p(x_t | class) over the noise: [N, 4]."""
    variance = ((1 - t) * SCALES) ** 2 + t**2
    distance = np.square(X0[:, None] - MEANS).sum(-1)
    return -(SIZE * np.log(variance) + ((1 - t) ** 2 * distance + t**2 * SIZE) / variance) / 2


@pytest.mark.parametrize("low", [0.0, 0.4])
def test_log_ratios_and_probabilities_are_those_of_bayes(low):
    found = classify(errors, N, NAMES, Effort(rounds=(4000,), beyond=np.inf, times=(low, 1.0)))
    assert (found.draws == 4000).all() and (found.evaluations == 16000).all()
    exact = bayes(low)
    ratio = exact - exact[np.arange(N), found.best][:, None]
    assert found.error[ratio > -5].max() < 0.2
    assert (np.abs(found.log_ratio - ratio) <= 4.5 * found.error + 1e-3).all()
    probability = special.softmax(exact, axis=1)
    # dp_c = p_c (d_c - sum_k p_k d_k) for errors d of the log-ratios
    moved = probability * (found.error + (probability * found.error).sum(1, keepdims=True))
    assert (np.abs(found.probabilities - probability) <= 4.5 * moved + 5e-3).all()
    assert np.mean(found.best == exact.argmax(1)) > 0.9


def test_the_error_is_the_scatter_of_independent_repetitions():
    effort = Effort(rounds=(256,), beyond=np.inf, times=(0.2, 1.0))
    runs = [classify(functools.partial(errors, seed=s), N, NAMES, effort) for s in range(24)]
    against_first = np.stack([run.log_ratio - run.log_ratio[:, :1] for run in runs])
    scatter = against_first.std(0, ddof=1)[:, 1:].mean()
    claimed = np.mean([run.error[run.error > 0].mean() for run in runs])
    assert 0.4 * claimed < scatter < 1.1 * claimed  # times that are spread evenly scatter less than free ones


def test_hopeless_classes_are_left_out():
    everything = classify(errors, N, NAMES, Effort(rounds=(16, 48, 192, 768), beyond=np.inf))
    adaptive = classify(errors, N, NAMES, Effort(rounds=(16, 48, 192, 768), beyond=4.0))
    assert adaptive.evaluations.mean() < 0.5 * everything.evaluations.mean()
    np.testing.assert_array_equal(adaptive.best, everything.best)
    assert (adaptive.draws.max(1) == adaptive.draws[np.arange(N), adaptive.best]).all()
    left_out = adaptive.draws < adaptive.draws.max(1, keepdims=True)
    assert left_out.mean() > 0.3
    exact = bayes(0.5)  # by which none of them is the best
    assert (exact.max(1, keepdims=True) - exact)[left_out].min() > 0.1


def test_one_temperature_calibrates():
    ratio = rng.normal(size=(20_000, 5)) * 3
    classes = (special.softmax(ratio, axis=1).cumsum(1) > rng.random((20_000, 1))).argmax(1)
    assert fit_temperature(7 * ratio, classes) == pytest.approx(7, rel=0.03)
    before, after = (calibration_error(special.softmax(x, axis=1), classes) for x in (7 * ratio, ratio))
    assert before > 0.1 and after < 0.02


def test_calibration_error_of_three_samples():
    probabilities = np.array([[0.9, 0.1], [0.88, 0.12], [0.4, 0.6]])
    # 0.9 and 0.88 share a range, and one of them is right; 0.6 is right.
    assert calibration_error(probabilities, np.array([0, 1, 1])) == pytest.approx((2 * 0.39 + 0.4) / 3)


# ---- a model ----


@pytest.fixture(scope="module")
def model():
    return MMGen(*tiny_model.build())


FAST = {"rounds": (2, 2), "batch": 8}


def test_any_modalities_of_a_model(model):
    values = tiny_model.values(3)
    for names in (("rgb",), ("depth", "mask"), tuple(values)):
        found = model.classify({m: values[m] for m in names}, **FAST)
        assert found.probabilities.shape == (3, 8) and found.class_names == model.class_names
        np.testing.assert_allclose(found.probabilities.sum(1), 1, rtol=1e-6)
        assert (found.draws >= 2).all() and (found.evaluations <= 4 * 8).all()
    assert model._zero_shot._errors._cache_size() == 3


def test_a_sample_does_not_depend_on_the_batch_or_the_other_classes(model):
    rgb = tiny_model.values(3)["rgb"]
    every = model.classify({"rgb": rgb}, beyond=1e6, **FAST)
    one = model.classify({"rgb": rgb[:1]}, beyond=1e6, rounds=(2, 2), batch=32)
    np.testing.assert_allclose(one.log_ratio, every.log_ratio[:1], atol=1e-2, rtol=1e-4)
    two = model.classify({"rgb": rgb}, ["torus", 0], beyond=1e6, **FAST)
    assert two.class_names == ("torus", model.class_names[0])
    torus = model.class_names.index("torus")
    expected = every.log_ratio[:, torus] - every.log_ratio[:, 0]
    np.testing.assert_allclose(two.log_ratio[:, 0] - two.log_ratio[:, 1], expected, atol=1e-2, rtol=1e-4)


def test_bad_requests(model):
    rgb = tiny_model.values(3)["rgb"]
    for given, options, message in (
        ({}, {}, r"given is \{\}; allowed: a dict"),
        ({"rgb": rgb, "depth": np.zeros((2, 16, 16))}, {}, "given has 2 of depth; allowed: 1, or 3 as of others"),
        ({"rgb": rgb}, {"classes": ["torus"]}, "classes has 1 entries; allowed: at least two"),
        ({"rgb": rgb}, {"classes": ["torus", "torus"]}, "classes has 2 entries; allowed: at least two"),
        ({"rgb": rgb}, {"classes": ["torus", "sofa"]}, "class is 'sofa'"),
        ({"rgb": rgb}, {"rounds": (1, 4)}, "rounds is .*the first above 1"),
        ({"rgb": rgb}, {"times": (0.5, 0.5)}, "times is .*low < high"),
        ({"rgb": rgb}, {"temperature": 0}, "temperature is 0; it must be"),
    ):
        with pytest.raises(UsageError, match=message):
            model.classify(given, **options)
