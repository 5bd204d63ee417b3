"""Trains a model on one host or many.

python -m mmgen_jax.train --config=configs/shapes_tiny.py --workdir=runs/a

The same command again resumes from the newest checkpoint.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("profile", "", "FIRST:LAST: first and last step to trace into workdir/profile.")
    command.parse()  # before the imports below, which take seconds

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders, restore
from mmgen_jax.checkpoints.saver import Saver
from mmgen_jax.data.waiting import Waiting
from mmgen_jax.models import flops, overview
from mmgen_jax.models.architectures import Params
from mmgen_jax.parallel import chips, sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system import files, hosts
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry import profiler
from mmgen_jax.telemetry.progress import Progress
from mmgen_jax.telemetry.report import Report
from mmgen_jax.telemetry.writer import Writer
from mmgen_jax.training import history, setup
from mmgen_jax.training.loop import run_loop
from mmgen_jax.training.preview import Preview
from mmgen_jax.training.setup import open_batches, restore_or_init


def train(config: ConfigDict, workdir: epath.PathLike, profile: tuple[int, int] | None = None) -> None:
    """Parses a recipe and trains as `run` does."""
    run(settings.parse(config), workdir, profile)


def run(chosen: Settings, workdir: epath.PathLike, profile: tuple[int, int] | None = None) -> None:
    """Trains until `train.steps`, and resumes from the newest checkpoint in the workdir if there is one.

    `profile` is the first and the last step to trace. Nothing is written before everything that the settings name has
    been read and fits. Raises UsageError for bad input, and RunError for a run that cannot go on.
    """
    hosts.start(**vars(chosen.distributed))
    if str(workdir) in model_folders.bundled():
        raise UsageError(f"workdir is {str(workdir)!r}, the name of a bundled model; give another one")
    files.check_path(workdir, "workdir")
    folder = epath.Path(workdir)
    if hosts.is_first():
        files.check_place(folder, "workdir", folder=True)
    # Before anything in it is looked at: a run that is just ending may still write the checkpoint to continue from.
    with files.alone(folder) if hosts.is_first() else contextlib.nullcontext():
        hosts.meet("the workdir is this run's")
        _train(chosen, folder, profile)


def _train(chosen: Settings, workdir: epath.Path, profile: tuple[int, int] | None) -> None:
    """Trains in a workdir that no other run uses."""
    mesh = sharding.make_mesh(**vars(chosen.mesh))
    data = setup.open_data(chosen)
    architecture = setup.make_architecture(chosen, workdir, data)
    placed = jax.device_put(architecture.autoencoder, sharding.replicated(mesh))  # once, for steps and previews
    architecture = dataclasses.replace(architecture, autoencoder=placed)
    if chosen.data.latents:
        setup.check_latents(chosen, architecture.autoencoder)
    inputs = setup.make_inputs(chosen, architecture.autoencoder)
    training = setup.assemble(chosen, architecture, mesh)
    preview = Preview(architecture, chosen, workdir, mesh) if chosen.train.sample_every else None
    changes = history.check(workdir, chosen)
    state, meta = restore_or_init(chosen, architecture, training, workdir)
    count = sum(p.size for p in jax.tree.leaves(state.params))
    say(f"{count / 1e6:.2f} M parameters, {mesh.size} {jax.devices()[0].platform} device(s), workdir {workdir}")
    if int(state.step) >= chosen.train.steps:
        say(f"nothing to do: step {int(state.step)} of train.steps = {chosen.train.steps} is reached")
        return
    profiler.check(profile, int(state.step) + 1, chosen.train.steps)
    say(overview.parameters(state.params))
    batches, tally = open_batches(chosen, data, mesh, meta)
    meta |= {"data": data.fingerprint}
    inputs = jax.device_put(inputs, sharding.replicated(mesh))
    hosts.meet("all have read what there is in the workdir")
    start, steps, size = int(state.step), chosen.train.steps, chosen.train.batch
    peak = chips.total_peak(mesh.devices.flatten().tolist())
    progress = Progress(start, steps, size, flops.train_step_flops(architecture, size), peak)
    with (
        Saver(workdir, chosen.train.keep, chosen.train.keep_best, start) as saver,
        contextlib.closing(hosts.only_first(Writer, workdir, start)) as writer,
        contextlib.closing(_report(chosen, start, meta, writer, progress, tally.settle)) as report,
        contextlib.closing(Waiting(batches, chosen.data.timeout)) as waiting,
        contextlib.closing(hosts.only_first(profiler.Profiler, workdir, profile)) as tracing,
        hosts.losing_hosts(),
    ):
        if hosts.is_first():
            architecture.save(workdir)
            history.write(workdir, chosen, start, changes)
        report.changes(changes)
        run_loop(
            chosen.train,
            state,
            waiting,
            lambda state, batch: training.step(state, inputs, sharding.to_global(batch, mesh)),
            report,
            saver,
            tracing,
            preview and functools.partial(_show, preview, writer),
        )
    say(f"done: {chosen.train.steps} steps; weights in {workdir / restore.FOLDER}")


def _show(preview: Preview, writer: Writer | hosts.Silent, params: Params, step: int) -> None:
    """Draws a preview, and adds it to the log if there is a picture."""
    picture = preview(params, step)
    if picture is not None:
        writer.image(step, "samples", picture)


def _report(
    chosen: Settings,
    step: int,
    meta: Mapping[str, Any],
    writer: Writer | hosts.Silent,
    progress: Progress,
    damaged: Callable[[], int],
) -> Report:
    """Makes the report of the run from its settings."""
    limits = chosen.train.max_skipped, chosen.train.spike_factor
    return Report(chosen.data.modalities, chosen.train.batch, step, meta, writer, progress, damaged, *limits)


def main(argv: list[str]) -> None:
    del argv
    try:
        with hosts.losing_hosts():
            train(flags.FLAGS.config, flags.FLAGS.workdir, profiler.parse(flags.FLAGS.profile))
    except SystemExit as stopped:
        if jax.process_count() == 1:  # at once: threads that read from storage that hangs would never end
            hosts.leave(int(stopped.code or 0))
        raise


if __name__ == "__main__":
    command.run(main, hosts.leave)
