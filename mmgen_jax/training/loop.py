"""The training loop: makes steps, and calls reports, checkpoints, traces and previews when they are due."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import jax

from mmgen_jax.checkpoints.saver import Saver
from mmgen_jax.data import pipeline
from mmgen_jax.models.architectures import Params
from mmgen_jax.settings import Train
from mmgen_jax.system import preemption
from mmgen_jax.system.console import say
from mmgen_jax.system.hosts import Silent
from mmgen_jax.telemetry.profiler import Profiler
from mmgen_jax.telemetry.report import Report
from mmgen_jax.training.objective import Metrics
from mmgen_jax.training.state import TrainState


def run_loop(
    train: Train,
    state: TrainState,
    batches: Iterator[pipeline.Batch],
    advance: Callable[[TrainState, pipeline.Batch], tuple[TrainState, Metrics]],
    report: Report,
    saver: Saver,
    profiler: Profiler | Silent,
    preview: Callable[[Params, int], object] | None,
) -> None:
    """Makes steps until `train.steps`. Metrics are read one step late, so that dispatching a step never waits.

    Args:
      train: the settings of the run.
      state: the state to start from; its `step` counts the steps that were made before.
      batches: batches of this process, as the pipeline makes them.
      advance: makes one step: (state, batch) -> (state, metrics).
      report: collects metrics and writes the log.
      saver: writes checkpoints.
      profiler: writes traces of some steps.
      preview: (averaged parameters, step) -> a picture of samples; None for no previews.

    A request to stop (SIGTERM, SIGINT) saves a checkpoint and ends the process with the exit code for that signal.
    """
    clock, first = report.clock, int(state.step)
    with preemption.requests() as requested:
        for step in range(first + 1, train.steps + 1):
            with clock("profile"):
                profiler.before(step)
            with clock("data"):
                batch = next(batches)
            with (
                clock("compile" if step == first + 1 else "dispatch"),
                # An array of the host that is used by accident would be copied to the devices in every step.
                jax.transfer_guard("disallow"),
                jax.profiler.StepTraceAnnotation("train", step_num=step),
            ):
                state, metrics = advance(state, batch)
            report.add(step, metrics)  # reads the metrics of the step before, as this step is still being computed
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
                loss = None if stop else means.get("loss")  # a mean over few steps must not rank among the best
                with clock("checkpoint"):
                    saver.save(step, state, report.position(step), loss)
            if stop:  # the machine may be gone within seconds, so only the checkpoint is finished
                saver.finish()
                say(f"stopped at step {step} by {signal.Signals(stop).name}; the same command continues from here")
                sys.exit(preemption.EXIT_CODES[stop])
            if preview and (last or step % train.sample_every == 0):
                with clock("preview"):
                    preview(state.ema, step)
        with clock("checkpoint"):
            saver.finish()
