"""Losses against the official model's arrays, and masks that mean what they say."""

from collections import OrderedDict

import golden_arrays
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.diffusion import flow, losses
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt


def test_golden_losses():
    golden = golden_arrays.arrays()
    x0, noise = golden_arrays.split(golden["loss/x0"]), golden_arrays.split(golden["loss/noise"])
    t = jnp.asarray(golden["forward/t"])
    x, target = OrderedDict(), OrderedDict()
    for i, m in enumerate(x0):
        x[m], target[m] = flow.interpolate(flow.LINEAR, x0[m], noise[m], t[:, i])
    with jax.default_matmul_precision("highest"):
        velocity, features = golden_arrays.model()(x, t, Prompt(golden["forward/class"], golden["forward/task"]))
    np.testing.assert_allclose(losses.squared_error(velocity, target, {}), golden["loss/sq_per_modality"], atol=1e-4)
    alignment = losses.negative_cosine(features, golden["loss/z"]).mean()
    np.testing.assert_allclose(alignment, golden["loss/proj"], atol=1e-6)


def test_mean_weights_average_each_modality_over_its_supervised_samples():
    supervised = jnp.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]], bool)
    values = jnp.arange(12.0).reshape(4, 3)
    weighted = (losses.mean_weights(supervised) * values).sum(0)
    np.testing.assert_allclose(weighted, [(0 + 3 + 9) / 3, (4 + 7) / 2, 0])


def test_nobody_supervised_gives_zero_loss_and_gradient_not_nan():
    supervised = jnp.zeros((4, 2), bool)
    target = OrderedDict(rgb=jnp.ones((4, 2, 2, 3)), depth=jnp.ones((4, 2, 2, 1)))

    def loss(scale):
        prediction = {m: scale * x for m, x in target.items()}
        return (losses.mean_weights(supervised) * losses.squared_error(prediction, target, {})).sum()

    value, gradient = jax.value_and_grad(loss)(0.5)
    assert value == 0 and gradient == 0


def test_negative_cosine_is_safe_at_zero_and_in_bfloat16(rng):
    features = jnp.asarray(rng.normal(size=(2, 5, 8)), jnp.bfloat16)
    np.testing.assert_allclose(losses.negative_cosine(features, 2 * features), -1, atol=1e-6)
    gradient = jax.grad(lambda f: losses.negative_cosine(f, features).sum())(jnp.zeros((2, 5, 8)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_features_are_told_apart_by_less_of_what_tokens_have_in_common(rng, share):
    features = 5 + rng.normal(size=(3, 40, 8))
    features[..., 0] = 0
    found = np.asarray(losses.told_apart(features, share), np.float64)[..., 1:]
    rest = features[..., 1:]
    np.testing.assert_allclose(found.std(1), 1, rtol=1e-4)
    np.testing.assert_allclose(found.mean(1), (1 - share) * rest.mean(1) / rest.std(1), rtol=1e-3, atol=1e-4)
    assert not np.asarray(losses.told_apart(features, share))[..., 0].any()


def test_errors_by_time_are_told_apart_and_add_up(rng):
    error, t = rng.random((64, 3)), rng.random((64, 3))
    supervised = rng.random((64, 3)) < 0.6
    t[0], t[1] = 1.0, 0.0
    found = losses.by_time(jnp.asarray(error), jnp.asarray(supervised), jnp.asarray(t))
    for m in range(3):
        # numpy's histogram has the same convention: the last range includes its end.
        chosen = supervised[:, m]
        bins = {"bins": losses.TIME_RANGES, "range": (0, 1)}
        count = np.histogram(t[chosen, m], **bins)[0]
        total = np.histogram(t[chosen, m], weights=error[chosen, m], **bins)[0]
        np.testing.assert_array_equal(found["by_time/count"][m], count)
        np.testing.assert_allclose(found["by_time/error"][m], total, rtol=1e-5)


def test_an_error_that_is_not_finite_shows_in_its_own_range_only():
    error = jnp.array([[1.0, jnp.nan], [2.0, 3.0], [jnp.inf, 4.0]])
    supervised = jnp.array([[True, True], [True, True], [False, True]])
    t = jnp.array([[0.1, 0.1], [0.6, 0.6], [0.9, 0.9]])
    found = np.asarray(losses.by_time(error, supervised, t)["by_time/error"])
    assert np.isnan(found[1, 0]) and np.isfinite(np.delete(found.ravel(), 4)).all()


def test_cells_without_a_value_do_not_count(rng):
    target = Latents({m: jnp.asarray(rng.normal(size=(3, 4, 4, 2)), jnp.float32) for m in ("depth", "rgb")})
    wrong = {m: x + 0.5 for m, x in target.items()}
    valid = np.ones((3, 4, 4), bool)
    valid[0, 1:3], valid[2] = False, False
    wrong["depth"] = jnp.where(valid[..., None], wrong["depth"], 1e6)
    found = losses.squared_error(wrong, target, {"depth": valid})
    np.testing.assert_allclose(found, [[0.25, 0.25], [0.25, 0.25], [0, 0.25]], rtol=1e-5)
    np.testing.assert_array_equal(losses.squared_error(target, target, {"depth": valid}), 0)
