"""What a network must predict that takes the scale of guidance as an input, on velocities that are known."""

from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mmgen_jax.diffusion import flow, guided
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.training.objective import Example, Objective, example_loss

CLASSES = 2  # and the null class
MEANS = np.array([[1.0, -2.0], [3.0, 0.5]])  # of data of each class, which does not vary
LARGEST = 5.0


def test_scales_are_even_in_the_logarithm_and_1_for_the_rest():
    found = np.asarray(guided.scales(jax.random.key(0), 20_000, LARGEST, 0.3))
    assert found.min() == 1 and found.max() <= LARGEST
    some = np.log(found[found > 1]) / np.log(LARGEST)
    assert abs(len(some) / len(found) - 0.3) < 0.01
    assert abs(some.mean() - 0.5) < 0.01 and abs(np.square(some).mean() - 1 / 3) < 0.01


def network(params, x, t, prompt, r=None, forward=False):
    """A constant for each class, and one for each that is multiplied with scale - 1."""
    del t, r, forward
    beyond = 0.0 if prompt.scale is None else (prompt.scale - 1)[:, None]
    out = params["plain"][prompt.class_id] + beyond * params["leaning"][prompt.class_id]
    return Latents((m, out[:, i].reshape(-1, 1, 1, 1)) for i, m in enumerate(x)), None


def test_a_network_learns_the_velocities_of_guidance():
    """By the loss of training itself: v_null + w (v - v_null), where v_null is the mean over classes."""
    objective = Objective(flow.LINEAR, (), jax.random.uniform, (1.0, 1.0), 0.0, 0.0, 0.3, 0.5)
    rows, steps = 256, 3000
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(lambda n: -0.02 * (1 - n / steps)))

    def example(key):
        keys = jax.random.split(key, 4)
        label = jax.random.randint(keys[0], (rows,), 0, CLASSES)
        target = jnp.asarray(MEANS)[label] + jax.random.normal(keys[1], (rows, 2))
        dropped = jax.random.bernoulli(keys[2], objective.label_dropout, (rows,))
        prompt = Prompt(jnp.where(dropped, CLASSES, label), jnp.zeros(rows, int))
        scale = guided.scales(keys[3], rows, LARGEST, objective.guided_share)
        both = (OrderedDict(zip("ab", z.T.reshape(2, rows, 1, 1, 1), strict=True)) for z in (target, target))
        told = Prompt(prompt.class_id, prompt.task, scale)
        times, weights = jnp.zeros((rows, 2)), jnp.full((rows, 2), 1 / rows)
        without = prompt.only(jnp.zeros(rows, bool), CLASSES)
        return Example(*both, times, None, told, weights, {}, None, jnp.zeros(rows), without)

    def step(carry, key):
        params, state = carry
        gradient = jax.grad(lambda p: example_loss(network, objective, p, example(key))[0])(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    params = {name: jnp.zeros((CLASSES + 1, 2)) for name in ("plain", "leaning")}
    keys = jax.random.split(jax.random.key(0), steps)
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((params, optimizer.init(params)))
    null = MEANS.mean(0)
    np.testing.assert_allclose(params["plain"], [*MEANS, null], atol=0.03)
    np.testing.assert_allclose(params["leaning"], [*(MEANS - null), [0, 0]], atol=0.03)
