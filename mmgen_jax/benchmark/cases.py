"""What is timed: one training step, one batch of samples, its decoding, one batch of data."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from ml_collections import ConfigDict

from mmgen_jax import flops, recipe, sharding, standins
from mmgen_jax.data import pipeline
from mmgen_jax.data.training import open_data
from mmgen_jax.sampling import bind, bind_task, classifier_free, sample
from mmgen_jax.train_state import init_state, make_optimizer
from mmgen_jax.train_step import make_train_step


@dataclass(frozen=True)
class Case:
    """Something to time.

    Attributes:
      run: makes that many calls, waits for the last one, returns the seconds they took.
      samples: of one call.
      flops: of the model's products in one call; 0 where there are none to speak of.
      dispatch: seconds until a call returns, while the devices compute; None where calls wait.
      program_bytes: memory that the compiled program wants on each device at its peak; None where unknown.
    """

    run: Callable[[int], float]
    samples: int
    flops: float
    dispatch: Callable[[], float] | None = None
    program_bytes: Callable[[], int] | None = None


def _timed(call: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)
    return time.perf_counter() - start


def _first_return(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - start
    jax.block_until_ready(result)
    return seconds


def _peak_bytes(lowered: jax.stages.Lowered) -> int:
    analysis = lowered.compile().memory_analysis()
    return analysis.peak_memory_in_bytes if analysis else 0


def train(config: ConfigDict) -> Case:
    """Steps on one random batch: whatever reading data costs is no part of it."""
    a, rows = standins.architecture(config), config.train.batch
    mesh = sharding.make_mesh()
    sharding.check_batch(rows // config.train.accumulate, mesh, "train.batch / train.accumulate")
    where = sharding.replicated(mesh)
    tx = make_optimizer(config.optim, config.train.steps)
    step = make_train_step(
        a,
        recipe.make_objective(config),
        tx,
        mesh,
        seed=config.seed,
        accumulate=config.train.accumulate,
        ema_decay=config.optim.ema_decay,
        ema_ramp=config.optim.ema_ramp,
    )
    inputs = jax.device_put(standins.inputs(config, a.autoencoder), where)
    batch = sharding.to_global(standins.batch(config, a), mesh)
    state = jax.jit(functools.partial(init_state, a, tx), out_shardings=where)(jax.random.key(0))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (state, inputs, batch))
    holder = [state]  # the step consumes its state

    def call() -> jax.Array:
        holder[0], metrics = step(holder[0], inputs, batch)
        return metrics["loss"]

    return Case(
        run=functools.partial(_timed, call),
        samples=rows,
        flops=flops.train_step_flops(a, rows),
        dispatch=functools.partial(_first_return, call),
        program_bytes=lambda: _peak_bytes(step.lower(*shapes)),
    )


def sampling(config: ConfigDict) -> Case:
    """Latents of all modalities for one batch, as the config's sample section says; every sample has a class."""
    a, chosen = standins.architecture(config), config.sample
    mesh, rows = sharding.make_mesh(), chosen.batch
    where = sharding.replicated(mesh)
    split = sharding.batched(mesh) if rows % mesh.size == 0 else where
    guided = chosen.guidance != 1

    @functools.partial(jax.jit, in_shardings=(where, split, split, where))
    def draw(params, noise, class_id, key):
        network, names = functools.partial(a.apply, params), a.modalities
        task = jax.numpy.zeros_like(class_id)
        if guided:
            conditional = bind_task(network, task, names)
            field = classifier_free(conditional, class_id, a.null_class, chosen.guidance, chosen.guidance_interval)
        else:
            field = bind(network, class_id, task, names)
        return sample(field, noise, key, chosen.solver, chosen.steps)

    rng = np.random.default_rng(0)
    arguments = (
        jax.jit(a.init, out_shardings=where)(jax.random.key(0)),
        {m: rng.standard_normal(shape, np.float32) for m, shape in a.latent_shapes(rows).items()},
        rng.integers(0, standins.CLASSES, rows).astype(np.int32),
        jax.random.key(0),
    )
    arguments = jax.device_put(arguments, (where, split, split, where))
    call = functools.partial(draw, *arguments)
    return Case(
        run=functools.partial(_timed, call),
        samples=rows,
        flops=flops.sampler_flops(a, rows, chosen.steps, chosen.solver, guided),
        dispatch=functools.partial(_first_return, call),
        program_bytes=lambda: _peak_bytes(draw.lower(*arguments)),
    )


def decode(config: ConfigDict) -> Case:
    """Latents of all modalities of one batch of samples -> images on the devices."""
    a, rows = standins.architecture(config), config.sample.batch
    mesh = sharding.make_mesh()
    split = sharding.batched(mesh) if rows % mesh.size == 0 else sharding.replicated(mesh)
    rng = np.random.default_rng(0)
    latents = {m: rng.standard_normal(shape, np.float32) for m, shape in a.latent_shapes(rows).items()}
    latents = jax.device_put(latents, split)
    autoencoder = jax.device_put(a.autoencoder, sharding.replicated(mesh))
    program = jax.jit(lambda autoencoder, latents: autoencoder.decode(latents))
    call = functools.partial(program, autoencoder, latents)
    return Case(
        run=functools.partial(_timed, call),
        samples=rows,
        flops=flops.decoder_flops(a, rows),
        dispatch=functools.partial(_first_return, call),
        program_bytes=lambda: _peak_bytes(program.lower(autoencoder, latents)),
    )


def data(config: ConfigDict) -> Case:
    """Batches as training reads them, from the config's data; raises UsageError where there are none."""
    found = open_data(config)
    batches = pipeline.batches(
        found.source,
        found.transforms,
        config.train.batch,
        seed=config.seed,
        workers=config.data.workers,
    )
    return Case(run=functools.partial(_timed, lambda: next(batches)["class_id"]), samples=config.train.batch, flops=0)


CASES: dict[str, Callable[[ConfigDict], Case]] = {"train": train, "sample": sampling, "decode": decode, "data": data}
