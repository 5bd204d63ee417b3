"""The training loop: makes steps, and calls reports, checkpoints, traces and previews when they are due."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

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


@dataclass(frozen=True)
class Look:
    """What is looked at on the way.

    Attributes:
      phase: the phase of the clock that its time counts in.
      every: steps between two looks; besides, there is one at the end.
      look: (averaged parameters, step) -> None.
    """

    phase: str
    every: int
    look: Callable[[Params, int], None]


def run_loop(
    train: Train,
    state: TrainState,
    batches: Iterator[pipeline.Batch],
    advance: Callable[[TrainState, pipeline.Batch], tuple[TrainState, Metrics]],
    report: Report,
    saver: Saver,
    profiler: Profiler | Silent,
    looks: Sequence[Look],
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
      looks: what is looked at on the way.

    A request to stop (see `preemption.SIGNALS`) saves a checkpoint and ends the process with the exit code for that
    signal. If reading fails, a checkpoint of the steps that were made is saved before the error is raised.
    """
    clock, first = report.clock, int(state.step)
    with preemption.requests() as requests:
        for step in range(first + 1, train.steps + 1):
            with clock("profile"):
                profiler.before(step)
            batch = _next_batch(batches, requests, step - 1, state, report, saver)
            with (
                clock("compile" if step == first + 1 else "dispatch"),
                # An array of the host that is used by accident would be copied to the devices in every step.
                jax.transfer_guard("disallow"),
                jax.profiler.StepTraceAnnotation("train", step_num=step),
            ):
                state, metrics = advance(state, batch)
            report.add(step, metrics)  # reads the metrics of the step before, as this step is still being computed
            last, stop = step == train.steps, requests.agreed()
            saver.check()
            if profiler.ends(step):
                report.settle()
                with clock("profile"):
                    profiler.close()
            if stop:  # the machine may be gone within seconds, so only the checkpoint is finished
                _save(step, state, report, saver)
                _stop(step, stop)
            due = last or step % train.save_every == 0
            if due or step % train.log_every == 0:
                means = report.row(step)
                profiler.look(step)
            if due:
                with clock("checkpoint"):
                    saver.save(step, state, report.position(step), means.get("loss"))
            for one in looks:
                if last or step % one.every == 0:
                    with clock(one.phase):
                        one.look(state.ema, step)
        with clock("checkpoint"):
            saver.finish()


def _next_batch(
    batches: Iterator[pipeline.Batch],
    requests: preemption.Requests,
    step: int,
    state: TrainState,
    report: Report,
    saver: Saver,
) -> pipeline.Batch:
    """The batch that follows `step`. If none comes, or a stop is requested while it is waited for, `state` is saved."""
    try:
        with report.clock("data"), requests.interruptible():
            return next(batches)
    except preemption.StopRequested:
        _save(step, state, report, saver)
        _stop(step, requests.received)
    except Exception:
        if jax.process_count() == 1:  # several can only save together
            _save(step, state, report, saver)
        raise


def _save(step: int, state: TrainState, report: Report, saver: Saver) -> None:
    """Saves the state after `step` unless it is saved, and waits until it is. Raises RunError.

    Without a loss: the mean over the few steps since the last row must not make it a best one.
    """
    if step != saver.newest:
        report.row(step)
        with report.clock("checkpoint"):
            saver.save(step, state, report.position(step))
    with report.clock("checkpoint"):
        saver.finish()


def _stop(step: int, number: int) -> NoReturn:
    say(f"stopped at step {step} by {signal.Signals(number).name}; the same command continues from here")
    sys.exit(preemption.exit_code(number))
