"""No random key is used twice, whatever draws from one seed."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from configs import base
from mmgen_jax import settings
from mmgen_jax.data import pipeline
from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.conditioning import parse_mix
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.metrics import report
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.parallel import sharding
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.training import preview, setup
from mmgen_jax.training.inputs import LatentInputs
from mmgen_jax.training.objective import make_example

DRAWS = ("normal", "uniform", "bernoulli", "randint", "permutation")


@pytest.fixture
def drawn(monkeypatch):
    """The keys that numbers are drawn from, as bytes, in the order of the draws, compiled or not."""
    found = []

    def recorded(draw, key, *args, **kwargs):
        jax.debug.callback(lambda data: found.append(np.asarray(data).tobytes()), jax.random.key_data(key))
        return draw(key, *args, **kwargs)

    for name in DRAWS:
        monkeypatch.setattr(jax.random, name, functools.partial(recorded, getattr(jax.random, name)))
    return found


def uniform(key, shape):
    """A uniform time sampler. That of the table calls JAX's own function, whose draws are not recorded."""
    return jax.random.uniform(key, shape)


def posterior(moments, key):
    """Stochastic latents, as a variational autoencoder has them."""
    halves = {m: jnp.split(x, 2, -1) for m, x in moments.items()}
    return Latents(
        (m, mean + (std + 0.1) * jax.random.normal(keys.stream(key, m), mean.shape))
        for m, (mean, std) in halves.items()
    )


def test_every_key_of_two_steps_a_preview_and_an_evaluation_differs(model_config, tmp_path, drawn, monkeypatch):
    config, (architecture, params) = model_config, tiny_model.build()
    config.seed = config.sample.seed = 7
    config.sample.update({"solver": "euler_maruyama", "steps": 3, "batch": 8})
    batch = pipeline.load(config.data.dir, "test", architecture.modalities, config.data.image_size, range(8))
    mesh = sharding.make_mesh(jax.devices()[:1])  # on several devices each of them would tell of the same draw

    mix = parse_mix(base.get_config().objective.mix, architecture.modalities)  # with pairs that are dropped
    objective = dataclasses.replace(setup.make_objective(settings.parse(config)), mix=mix, time_sampler=uniform)
    moments = architecture.autoencoder.moments({m: to_array(batch[m]) for m in architecture.modalities})
    stored = batch | {m: np.asarray(x) for m, x in moments.items()}
    with monkeypatch.context() as patch:
        patch.setattr(type(architecture.autoencoder), "sample", lambda self, moments, key: posterior(moments, key))
        for step in range(2):
            key = jax.random.fold_in(keys.of_seed(config.seed, "train"), step)
            make_example(architecture, objective, LatentInputs(architecture.autoencoder), stored, key)
    jax.effects_barrier()
    # Posterior and noise of four modalities, labels, times, times of the given, two for dropped pairs, a set per row.
    assert len(drawn) == 2 * (4 + 4 + 1 + 1 + 1 + 2 + len(objective.mix))

    preview.Preview(architecture, settings.parse(config), tmp_path, mesh)(params, 1)
    jax.effects_barrier()
    assert len(drawn) > 2 * 8 * 4 + 2 * 8 * 3 * 3  # noise of every sample and modality, noise of every step

    options = Options("euler_maruyama", 3, batch=8)
    runner = Runner(Sampler(architecture, mesh), params, dataclasses.replace(options, draws=2), options)
    counts = report.scored([batch], runner.sampler.architecture)
    facts = runner.sampler.architecture.facts
    list(report.evaluate(runner, [batch], counts, samples=8, facts=facts, seeds=(config.seed,)))
    jax.effects_barrier()
    twice = len(drawn) - len(set(drawn))
    assert twice == 0, f"{twice} of {len(drawn)} keys are used again"
    assert jax.random.key_data(keys.of_seed(config.seed, "init")).tobytes() not in drawn


def test_streams_hold_nothing_that_counters_reach():
    names = ("rgb", "depth", "normal", "mask", "train", "sample", "init", "solver", "noise")
    numbers = {keys.number(name) for name in names}
    assert len(numbers) == len(names) and min(numbers) >= 2**16
