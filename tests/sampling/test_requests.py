"""Tests the arrays that requests for samples become."""

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import keys
from mmgen_jax.sampling import requests, sample

SHAPES = {"rgb": (4, 4, 3), "depth": (4, 4, 1), "mask": (4, 4, 2)}


def test_noise_of_a_sample_does_not_depend_on_the_batch():
    together = requests.noise(jax.random.key(5), jnp.arange(6), SHAPES)
    for i in (0, 3, 5):
        alone = requests.noise(jax.random.key(5), jnp.array([i]), SHAPES)
        for m in SHAPES:
            np.testing.assert_array_equal(alone[m][0], together[m][i])


def test_noise_of_a_modality_does_not_depend_on_the_others():
    both = requests.noise(jax.random.key(5), jnp.arange(3), SHAPES)
    np.testing.assert_array_equal(
        requests.noise(jax.random.key(5), jnp.arange(3), {"depth": (4, 4, 1)})["depth"], both["depth"]
    )


def test_noise_is_standard_normal_and_differs():
    noise = requests.noise(jax.random.key(0), jnp.arange(512), SHAPES)
    flat = np.concatenate([np.asarray(x).reshape(512, -1) for x in noise.values()], 1)
    np.testing.assert_allclose(flat.mean(), 0, atol=0.02)
    np.testing.assert_allclose(flat.std(), 1, atol=0.02)
    correlation = np.corrcoef(flat.T) - np.eye(flat.shape[1])
    assert np.abs(correlation).max() < 0.25
    assert not np.array_equal(noise["rgb"][0], requests.noise(jax.random.key(1), jnp.arange(1), SHAPES)["rgb"][0])


def test_request():
    arrays = requests.request(jax.random.key(0), jnp.arange(2), SHAPES)
    assert list(arrays.noise) == list(SHAPES) and arrays.key.shape == (2,)


def test_stochastic_solver_with_one_key_per_sample_does_not_depend_on_the_batch():
    def draw(indices):
        noise = requests.noise(jax.random.key(0), indices, {"depth": (2, 2, 1)})

        def field(x, t):
            return jax.tree.map(lambda v: -v, x)

        return sample(field, noise, requests.step_keys(jax.random.key(0), indices), "euler_maruyama", 4)["depth"]

    together = draw(jnp.arange(3))
    np.testing.assert_allclose(draw(jnp.array([2]))[0], together[2], rtol=1e-5)
    assert not np.allclose(together[0], together[1])


def test_randomness_does_not_depend_on_how_many_modalities_there_are():
    key = keys.stream(jax.random.fold_in(jax.random.key(3), 5), "solver")
    found = requests.step_keys(jax.random.key(3), jnp.array([5]))
    np.testing.assert_array_equal(jax.random.key_data(found)[0], jax.random.key_data(key))


def test_batches_cover_all_samples_and_have_one_size():
    parts = list(requests.batches(10, 4))
    assert [part.tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 9, 9]]


def test_batch_size_is_a_power_of_two_up_to_the_limit():
    assert [requests.batch_size(n, 32) for n in (1, 2, 3, 5, 32, 100)] == [1, 2, 4, 8, 32, 32]
    assert requests.batch_size(100, 24) == 24
