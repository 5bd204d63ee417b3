"""The cases that are timed: a training step, sampling of a batch, its decoding, and reading of a batch."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np

from mmgen_jax.data import pipeline
from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.models import flops
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import sharding
from mmgen_jax.sampling import sampler
from mmgen_jax.sampling.options import plan
from mmgen_jax.sampling.sampler import Rows, Sampler, jit_draw
from mmgen_jax.settings import Settings
from mmgen_jax.training import setup, standins


@dataclass(frozen=True)
class Case:
    """Something to time.

    Attributes:
      run: makes this many calls, waits for the last one, and returns the seconds that they took.
      samples: number of samples in one call.
      flops: flops of the model in one call; 0 if they are not worth counting.
      dispatch: seconds until a call returns while devices still compute; None if calls wait for their result.
      program_bytes: peak memory of the compiled program on each device; None if unknown.
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


def train(chosen: Settings) -> Case:
    """Makes training steps on one random batch. The time to read data is not included."""
    a, rows = standins.architecture(chosen), chosen.train.batch
    mesh = sharding.make_mesh(**vars(chosen.mesh))
    training = setup.assemble(chosen, a, mesh)
    inputs = jax.device_put(standins.inputs(chosen, a.autoencoder), sharding.replicated(mesh))
    batch = sharding.to_global(standins.batch(chosen, a), mesh)
    state = training.init(jax.random.key(0))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), (state, inputs, batch))
    holder = [state]  # the step takes its state away and returns a new one

    def call() -> jax.Array:
        holder[0], metrics = training.step(holder[0], inputs, batch)
        return metrics["loss"]

    return Case(
        run=functools.partial(_timed, call),
        samples=rows,
        flops=flops.train_step_flops(a, rows),
        dispatch=functools.partial(_first_return, call),
        program_bytes=lambda: _peak_bytes(training.step.lower(*shapes)),
    )


def sampling(chosen: Settings) -> Case:
    """Samples latents of all modalities for one batch, as the settings in `sample` say; every sample has a class."""
    a, section = standins.architecture(chosen), chosen.sample
    mesh = sharding.make_mesh(**vars(chosen.mesh))
    shares = sharding.parts(mesh)
    rows = -(-section.batch // shares) * shares
    program = jit_draw(Layout(a, mesh))
    choices, dials = plan(section.options(), (), a.modalities, conditional=True, largest=a.model.guided)
    where = sharding.state_shardings(mesh, jax.eval_shape(a.init, jax.random.key(0)))
    params = Sampler(a, mesh).place(jax.jit(a.init, out_shardings=where)(jax.random.key(0)))
    classes = np.random.default_rng(0).integers(0, standins.CLASSES, rows).astype(np.int32)
    indices = np.arange(rows), np.zeros(rows, int), classes
    numbers, draws, class_id = jax.device_put(indices, sharding.batched(mesh))
    arguments = (params, Rows(numbers, draws, class_id, Latents()), dials, keys.of_seed(section.seed, "sample"))
    call = functools.partial(program, *arguments, choices=choices)
    return Case(
        run=functools.partial(_timed, call),
        samples=rows,
        flops=sampler.sampler_flops(a, rows, section.count, section.solver, len(choices.members) + 1),
        dispatch=functools.partial(_first_return, call),
        program_bytes=lambda: _peak_bytes(program.lower(*arguments, choices=choices)),
    )


def decode(chosen: Settings) -> Case:
    """Decodes latents of all modalities of one batch of samples to images on the devices."""
    a, rows = standins.architecture(chosen), chosen.sample.batch
    mesh = sharding.make_mesh(**vars(chosen.mesh))
    split = sharding.batched(mesh) if rows % sharding.parts(mesh) == 0 else sharding.replicated(mesh)
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


def data(chosen: Settings) -> Case:
    """Reads batches of the config's data as training does. Raises UsageError if there are no data."""
    found = setup.open_data(chosen)
    batches = pipeline.batches(
        found.source,
        found.transforms,
        chosen.train.batch,
        seed=chosen.seed,
        workers=chosen.data.workers,
    )
    return Case(run=functools.partial(_timed, lambda: next(batches)["class_id"]), samples=chosen.train.batch, flops=0)


CASES: dict[str, Callable[[Settings], Case]] = {"train": train, "sample": sampling, "decode": decode, "data": data}
