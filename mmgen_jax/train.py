"""Trains a model on one host or many.

python -m mmgen_jax.train --config=configs/shapes_tiny.py --workdir=runs/a

The same command again resumes from the newest checkpoint.
"""

from __future__ import annotations

import contextlib
import dataclasses

import jax
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders as bundles
from mmgen_jax.checkpoints import restore as checkpoint
from mmgen_jax.checkpoints.saver import Saver
from mmgen_jax.data.train_data import open_data
from mmgen_jax.models import flops, overview
from mmgen_jax.parallel import chips
from mmgen_jax.parallel import mesh as sharding
from mmgen_jax.system import command, files
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
from mmgen_jax.training.loop import run_loop
from mmgen_jax.training.setup import open_batches, restore_or_init


def train(config: ConfigDict, workdir: str, profile: tuple[int, int] | None = None) -> None:
    """Trains to `train.steps`, resuming from what the workdir holds. Raises UsageError and RunError.

    `profile`: first and last step to trace. Nothing is written before all that the config names has been read and fits.
    """
    settings.parse(config)
    distributed.start(config.distributed)
    if str(workdir) in bundles.bundled():
        raise UsageError(f"workdir is {str(workdir)!r}, the name of a bundled model; give another one")
    workdir = epath.Path(workdir)
    mesh = sharding.make_mesh(**config.mesh)
    data = open_data(config)
    architecture = recipe.make_architecture(config, workdir, data)
    placed = jax.device_put(architecture.autoencoder, sharding.replicated(mesh))  # once, for steps and previews
    architecture = dataclasses.replace(architecture, autoencoder=placed)
    if config.data.latents:
        recipe.check_latents(config, architecture.autoencoder)
    inputs = recipe.make_inputs(config, architecture.autoencoder)
    training = recipe.assemble(config, architecture, mesh)
    preview = previews.Preview(architecture, config, workdir, mesh) if config.train.sample_every else None
    state, meta = restore_or_init(config, training, workdir)
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
        contextlib.closing(Report(config, start, meta["samples"], writer, progress, tally.settle)) as report,
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
            lambda state, batch: training.step(state, inputs, sharding.to_global(batch, mesh)),
            report,
            saver,
            profiler,
            preview and (lambda params, step: writer.image(step, "samples", preview(params, step))),
        )
    say(f"done: {config.train.steps} steps; weights in {workdir / checkpoint.FOLDER}")


def main(argv: list[str]) -> None:
    del argv
    with distributed.losing_hosts():
        train(flags.FLAGS.config, flags.FLAGS.workdir, profiling.parse(flags.FLAGS.profile))


if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("profile", "", "FIRST:LAST, steps to trace into workdir/profile.")
    command.run(main, distributed.leave)
