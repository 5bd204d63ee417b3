"""The loop and nothing else.

python -m mmgen_jax.train --config=configs/shapes_tiny.py --workdir=runs/a

The same command again resumes from the newest checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import sys
from collections.abc import Callable, Iterator, Mapping

import jax
import numpy as np
import optax
from absl import flags
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders as bundles
from mmgen_jax.checkpoints import restore as checkpoint
from mmgen_jax.checkpoints.saver import Saver
from mmgen_jax.data import pipeline
from mmgen_jax.data.damage import Tally
from mmgen_jax.data.train_data import TrainData, open_data
from mmgen_jax.diffusion import keys
from mmgen_jax.models import flops, overview
from mmgen_jax.models.architecture import Architecture, Params
from mmgen_jax.parallel import chips
from mmgen_jax.parallel import mesh as sharding
from mmgen_jax.system import command, console, files, preemption
from mmgen_jax.system import hosts as distributed
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry import profiler as profiling
from mmgen_jax.telemetry import writer as telemetry
from mmgen_jax.telemetry.profiler import Profiler
from mmgen_jax.telemetry.progress import Progress
from mmgen_jax.telemetry.report import Report
from mmgen_jax.training import preview as previews
from mmgen_jax.training import setup as recipe
from mmgen_jax.training.state import TrainState, init_state, make_optimizer
from mmgen_jax.training.step import Metrics


def restore_or_init(
    config: ConfigDict, architecture: Architecture, tx: optax.GradientTransformation, mesh: Mesh, workdir: epath.Path
) -> tuple[TrainState, dict]:
    """The state to start from and what its checkpoint says of the data it has seen; writes nothing.

    Order of sources: the newest checkpoint of the workdir, `train.init_from`, fresh parameters.
    """
    make = functools.partial(init_state, architecture, tx)
    key = keys.of_seed(config.seed, "init")
    shapes = jax.eval_shape(make, key)
    where = sharding.state_shardings(mesh, shapes)
    folder = checkpoint.folder_of(workdir)
    if checkpoint.steps_in(folder):
        abstract = jax.tree.map(lambda s, w: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=w), shapes, where)
        state, meta = checkpoint.restore(workdir, abstract)
        say(f"resuming from step {int(state.step)} in {folder}")
        return state, meta
    state = jax.jit(make, out_shardings=where)(key)
    if config.train.init_from:
        _, params = bundles.load(config.train.init_from)
        # Twice, since donated buffers may not be aliased.
        params, ema = (jax.device_put(jax.tree.map(np.array, params), where.params) for _ in range(2))
        state = TrainState(state.step, params, ema, state.opt_state)
        say(f"starting from the weights of {config.train.init_from}")
    return state, {"samples": 0}


def open_batches(
    config: ConfigDict, data: TrainData, mesh: Mesh, meta: Mapping[str, int]
) -> tuple[Iterator[pipeline.Batch], Tally]:
    """What this process reads of each global batch, from where the checkpoint's `meta` says; counts damaged records."""
    tally = Tally(
        config.data.max_damaged,
        len(data.source),
        console.say_here,
        distributed.total,
        found=meta.get("damaged", 0),
        read=meta["samples"],
    )
    parts, of = mesh.batch_parts(mesh)
    batches = pipeline.batches(
        data.source,
        data.transforms,
        config.train.batch,
        seed=config.seed,
        step=meta["samples"] // config.train.batch,
        parts=parts,
        of=of,
        workers=config.data.workers,
        tally=tally,
    )
    return batches, tally


def run_loop(
    train: ConfigDict,
    state: TrainState,
    batches: Iterator[pipeline.Batch],
    advance: Callable[[TrainState, pipeline.Batch], tuple[TrainState, Metrics]],
    report: Report,
    saver: Saver,
    profiler: Profiler,
    preview: Callable[[Params, int], object] | None,
) -> None:
    """Steps until `train.steps`; metrics are read one step late, so that dispatch never waits.

    `advance` makes one step; `preview` draws from averaged parameters.
    """
    clock, first = report.clock, int(state.step)
    with preemption.requests() as requested:
        for step in range(first + 1, train.steps + 1):
            with clock("profile"):
                profiler.before(step)
            with clock("data"):
                batch = next(batches)
            with clock("compile" if step == first + 1 else "dispatch"):
                state, metrics = advance(state, batch)
            report.add(step, metrics)  # reads those of the step before: this one is still being computed
            last, stop = step == train.steps, requested()
            saver.check()
            due = last or stop or step % train.save_every == 0
            if profiler.ends(step):
                report.settle()
                with clock("profile"):
                    profiler.close()
            if due or step % train.log_every == 0:
                means = report.row(step)
                profiler.look(step)
            if due:
                loss = None if stop else means.get("loss")  # a mean over a few steps is no reason to keep it
                with clock("checkpoint"):
                    saver.save(step, state, report.position(step), loss)
            if stop:  # there may be seconds left: nothing but saving
                saver.finish()
                say(f"stopped at step {step} by {signal.Signals(stop).name}; the same command continues from here")
                sys.exit(preemption.EXIT_CODES[stop])
            if preview and (last or step % train.sample_every == 0):
                with clock("preview"):
                    preview(state.ema, step)
        with clock("checkpoint"):
            saver.finish()


def train(config: ConfigDict, workdir: str, profile: tuple[int, int] | None = None) -> None:
    """Trains to `train.steps`, resuming from what the workdir holds. Raises UsageError and RunError.

    `profile`: first and last step to trace. Nothing is written before all that the config names has been read and fits.
    """
    settings.validate(config)
    distributed.start(config.distributed)
    if str(workdir) in bundles.bundled():
        raise UsageError(f"workdir is {str(workdir)!r}, the name of a bundled model; give another one")
    workdir = epath.Path(workdir)
    mesh = sharding.make_mesh(**config.mesh)
    sharding.check_batch(config.train.batch // config.train.accumulate, mesh, "train.batch / train.accumulate")
    data = open_data(config)
    architecture = recipe.make_architecture(config, workdir, data)
    placed = jax.device_put(architecture.autoencoder, sharding.replicated(mesh))  # once, for steps and previews
    architecture = dataclasses.replace(architecture, autoencoder=placed)
    if config.data.latents:
        recipe.check_latents(config, architecture.autoencoder)
    inputs = recipe.make_inputs(config, architecture.autoencoder)
    tx = make_optimizer(config.optim, config.train.steps)
    train_step = recipe.make_step(config, architecture, tx, mesh)
    preview = previews.Preview(architecture, config, workdir, mesh) if config.train.sample_every else None
    state, meta = restore_or_init(config, architecture, tx, mesh, workdir)
    count = sum(p.size for p in jax.tree.leaves(state.params))
    say(f"{count / 1e6:.2f} M parameters, {mesh.size} {jax.devices()[0].platform} device(s), workdir {workdir}")
    if int(state.step) >= config.train.steps:
        say(f"nothing to do: step {int(state.step)} of train.steps = {config.train.steps} is reached")
        return
    profiling.check(profile, int(state.step) + 1, config.train.steps)
    say(overview.parameters(state.params))
    batches, tally = open_batches(config, data, mesh, meta)
    inputs = jax.device_put(inputs, sharding.replicated(mesh))
    distributed.meet("all have read what there is in the workdir")
    start, steps, size = int(state.step), config.train.steps, config.train.batch
    peak = chips.total_peak(mesh.devices.flatten())
    progress = Progress(start, steps, size, flops.train_step_flops(architecture, size), peak)
    with (
        files.alone(workdir) if distributed.is_first() else contextlib.nullcontext(),
        Saver(workdir, config.train.keep, config.train.keep_best, start) as saver,
        contextlib.closing(distributed.only_first(telemetry.Writer, workdir, start)) as writer,
        contextlib.closing(Report(config, start, meta["samples"], writer, progress, tally)) as report,
        contextlib.closing(batches),
        contextlib.closing(distributed.only_first(Profiler, workdir, profile)) as profiler,
        distributed.losing_hosts(),
    ):
        if distributed.is_first():
            architecture.save(workdir)
            files.write(workdir / "config.json", (config.to_json_best_effort(indent=1) + "\n").encode())
        run_loop(
            config.train,
            state,
            batches,
            lambda state, batch: train_step(state, inputs, sharding.to_global(batch, mesh)),
            report,
            saver,
            profiler,
            preview and (lambda params, step: writer.image(step, "samples", preview(params, step))),
        )
    say(f"done: {config.train.steps} steps; weights in {workdir / checkpoint.FOLDER}")


def main(argv: list[str]) -> None:
    with distributed.losing_hosts():
        train(flags.FLAGS.config, flags.FLAGS.workdir, profiling.parse(flags.FLAGS.profile))


if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("profile", "", "FIRST:LAST, steps to trace into workdir/profile.")
    command.run(main, distributed.leave)
