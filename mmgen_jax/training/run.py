"""One training run in a workdir: what is trained, and all around its steps that does not depend on it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from mmgen_jax.checkpoints import model_folders, restore
from mmgen_jax.checkpoints.saver import Saver
from mmgen_jax.data.train_data import TrainData
from mmgen_jax.data.waiting import Waiting
from mmgen_jax.models import overview
from mmgen_jax.models.architectures import Params
from mmgen_jax.parallel import chips, sharding
from mmgen_jax.settings import Settings, Train
from mmgen_jax.system import files, hosts
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry import profiler
from mmgen_jax.telemetry.progress import Progress
from mmgen_jax.telemetry.report import Report
from mmgen_jax.telemetry.writer import Writer
from mmgen_jax.training import history
from mmgen_jax.training.loop import Look, run_loop
from mmgen_jax.training.setup import open_batches, restore_or_init
from mmgen_jax.training.step import Training
from mmgen_jax.training.workdir import check as check_workdir

Preview = Callable[[Params, int], np.ndarray | None]  # (averaged parameters, step) -> a picture uint8 [H, W, 3]
Scores = Callable[[Params, int], Mapping[str, float]]  # (averaged parameters, step) -> scores by their names


@dataclass(frozen=True)
class Job:
    """What a run trains, and on what.

    Attributes:
      training: the compiled programs.
      inputs: what the step takes besides state and batch, a pytree on the host or on devices.
      data: the train split.
      start: (value of `train.init_from`) -> the parameters that a new run starts from; None for fresh ones.
      save: (workdir) -> writes what a workdir says of the model besides its checkpoints.
      flops: floating-point operations of a step.
      preview: draws pictures every `train.sample_every` steps, if that is not 0.
      scores: scores the model every `train.evaluate_every` steps; None if that is 0.
    """

    training: Training
    inputs: Any
    data: TrainData
    start: Callable[[str], Params | None]
    save: Callable[[epath.Path], object]
    flops: float
    preview: Preview | None
    scores: Scores | None = None


@contextlib.contextmanager
def alone(chosen: Settings, workdir: epath.PathLike) -> Iterator[epath.Path]:
    """Connects the hosts, and gives the workdir to this run alone. Raises UsageError for a place where none can be."""
    hosts.start(**vars(chosen.distributed))
    if str(workdir) in model_folders.bundled():
        raise UsageError(f"workdir is {str(workdir)!r}, the name of a bundled model; give another one")
    files.check_path(workdir, "workdir")
    folder = epath.Path(workdir)
    if hosts.is_first():
        files.check_place(folder, "workdir", folder=True)
    # Before anything in it is looked at: a run that is just ending may still write the checkpoint to continue from.
    with files.alone(folder) if hosts.is_first() else contextlib.nullcontext():
        if hosts.is_first():
            check_workdir(folder)
        hosts.meet("the workdir is this run's")
        yield folder


def steps(chosen: Settings, job: Job, mesh: Mesh, workdir: epath.Path, profile: tuple[int, int] | None = None) -> None:
    """Makes the steps that are left until `train.steps`. Nothing is written before all that is read fits.

    Raises UsageError for bad input, and RunError for a run that cannot go on.
    """
    changes = history.check(workdir, chosen)
    state, meta = restore_or_init(chosen, job.training, job.start, workdir)
    count = sum(p.size for p in jax.tree.leaves(state.params))
    say(f"{count / 1e6:.2f} M parameters, {mesh.size} {jax.devices()[0].platform} device(s), workdir {workdir}")
    if int(state.step) >= chosen.train.steps:
        say(f"nothing to do: step {int(state.step)} of train.steps = {chosen.train.steps} is reached")
        return
    profiler.check(profile, int(state.step) + 1, chosen.train.steps)
    say(overview.parameters(state.params))
    batches, tally = open_batches(chosen, job.data, mesh, meta)
    meta |= {"data": job.data.fingerprint}
    inputs = jax.device_put(job.inputs, sharding.replicated(mesh))
    hosts.meet("all have read what there is in the workdir")
    start = int(state.step)
    peak = chips.total_peak(mesh.devices.flatten().tolist())
    progress = Progress(start, chosen.train.steps, chosen.train.batch, job.flops, peak)
    with (
        Saver(workdir, chosen.train.keep, chosen.train.keep_best, start) as saver,
        contextlib.closing(hosts.only_first(Writer, workdir, start + 1)) as writer,
        contextlib.closing(_report(chosen, start, meta, writer, progress, tally.settle)) as report,
        contextlib.closing(Waiting(batches, chosen.data.timeout)) as waiting,
        contextlib.closing(hosts.only_first(profiler.Profiler, workdir, profile)) as tracing,
        hosts.losing_hosts(),
    ):
        if hosts.is_first():
            job.save(workdir)
            history.write(workdir, chosen, start, changes)
        report.changes(changes)
        run_loop(
            chosen.train,
            state,
            waiting,
            lambda state, batch: job.training.step(state, inputs, sharding.to_global(batch, mesh)),
            report,
            saver,
            tracing,
            _looks(chosen.train, job, writer),
        )
    say(f"done: {chosen.train.steps} steps; weights in {workdir / restore.FOLDER}")


def to_the_end(train: Callable[[], object]) -> None:
    """Calls what trains, for a command; after a request to stop, the process ends without waiting for anything."""
    try:
        with hosts.losing_hosts():
            train()
    except SystemExit as stopped:
        if jax.process_count() == 1:  # at once: threads that read from storage that hangs would never end
            hosts.leave(int(stopped.code or 0))
        raise


def _looks(train: Train, job: Job, writer: Writer | hosts.Silent) -> list[Look]:
    """What the settings ask for of previews and scores, which go to the log."""
    looks = []
    if preview := job.preview:

        def show(params: Params, step: int, draw: Preview = preview) -> None:
            picture = draw(params, step)
            if picture is not None:
                writer.image(step, "samples", picture)

        looks.append(Look("preview", train.sample_every, show))
    if scores := job.scores:

        def score(params: Params, step: int, of: Scores = scores) -> None:
            writer.scores(step, of(params, step))

        looks.append(Look("scores", train.evaluate_every, score))
    return looks


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
