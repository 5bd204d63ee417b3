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
from collections.abc import Callable, Iterator

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
from absl import flags
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mmgen_jax import bundles, checkpoint, errors, files, previews, recipe, settings, sharding, telemetry
from mmgen_jax.architecture import Architecture, Params
from mmgen_jax.data import pipeline
from mmgen_jax.data.training import open_data
from mmgen_jax.errors import RunError, UsageError
from mmgen_jax.telemetry import say
from mmgen_jax.train_state import TrainState, init_state, make_optimizer
from mmgen_jax.train_step import Metrics, make_train_step


def restore_or_init(
    config: ConfigDict, architecture: Architecture, tx: optax.GradientTransformation, mesh: Mesh, workdir: epath.Path
) -> tuple[TrainState, int]:
    """The state to start from and the number of samples it has seen; writes nothing.

    Order of sources: the newest checkpoint of the workdir, `train.init_from`, fresh parameters.
    """
    make = functools.partial(init_state, architecture, tx)
    key = jax.random.fold_in(jax.random.key(config.seed), 2**31 - 1)  # no step has this number
    where = sharding.replicated(mesh)
    if (workdir / checkpoint.FOLDER).exists():
        with checkpoint.make_manager(workdir, config.train.save_every, config.train.keep) as manager:
            if manager.all_steps():
                shapes = jax.eval_shape(make, key)
                abstract = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)
                state, meta = checkpoint.restore(manager, abstract)
                say(f"resuming from step {int(state.step)} in {manager.directory}")
                return state, meta["samples"]
    state = jax.jit(make, out_shardings=where)(key)
    if config.train.init_from:
        _, params = bundles.load(config.train.init_from)
        # Twice, since donated buffers may not be aliased.
        params, ema = (jax.device_put(jax.tree.map(np.array, params), where) for _ in range(2))
        state = TrainState(state.step, params, ema, state.opt_state)
        say(f"starting from the weights of {config.train.init_from}")
    return state, 0


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
    """Within the block SIGINT and SIGTERM only make the yielded function return their number (else 0)."""
    received = [0]

    def note(number: int, _frame) -> None:
        received[0] = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: received[0]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def check_finite(step: int, metrics: dict[str, jax.Array]) -> None:
    """Raises RunError if the update of `step` was not finite (its state is unchanged then)."""
    if float(metrics["finite"]) != 1:
        values = ", ".join(f"{k} {float(v):g}" for k, v in sorted(metrics.items()) if k != "finite")
        raise RunError(f"step {step}: loss or gradient is not finite ({values}); its update was not applied")


def run_loop(
    config: ConfigDict,
    state: TrainState,
    samples: int,
    advance: Callable[[TrainState], tuple[TrainState, Metrics]],
    manager: ocp.CheckpointManager,
    writer: telemetry.Writer,
    preview: Callable[[Params, int], np.ndarray] | None,
) -> None:
    """Steps until `train.steps`; metrics are read one step late, so that dispatch never waits.

    `samples` is the number of samples that the state has seen: the position in the data. `advance` takes the next
    batch and makes one step.
    """
    train = config.train
    first = int(state.step)
    progress = telemetry.Progress(first, train.steps, train.batch)
    window: list[dict] = []
    with stop_requests() as requested:
        for step in range(first + 1, train.steps + 1):
            state, metrics = advance(state)
            if window:
                check_finite(step - 1, window[-1])  # of the step before: this one is still being computed
            window.append(metrics)
            last, stop = step == train.steps, requested()
            due = last or stop or step % train.save_every == 0
            if due or step % train.log_every == 0:
                check_finite(step, metrics)
                means = {k: float(np.mean([float(m[k]) for m in window])) for k in metrics if k != "finite"}
                text, rates = progress.line(step, means)
                say(text)
                writer.scalars(step, means | rates)
                window = []
            if due:
                meta = {"step": step, "samples": samples + (step - first) * train.batch}
                checkpoint.save(manager, step, state, meta, force=last or bool(stop))
            if preview and (last or step % train.sample_every == 0):
                writer.image(step, "samples", preview(state.ema, step))
            if stop:
                manager.wait_until_finished()
                say(f"stopped at step {step} by signal {stop}; the same command continues from here")
                sys.exit(128 + stop)
    manager.wait_until_finished()


def train(config: ConfigDict, workdir: str) -> None:
    """Trains to `train.steps`, resuming from what the workdir holds. Raises UsageError and RunError.

    Nothing is written before all that the config names has been read and fits.
    """
    settings.validate(config)
    if str(workdir) in bundles.bundled():
        raise UsageError(f"workdir is {str(workdir)!r}, the name of a bundled model; give another one")
    workdir = epath.Path(workdir)
    mesh = sharding.make_mesh()
    sharding.check_batch(config.train.batch // config.train.accumulate, mesh, "train.batch / train.accumulate")
    data = open_data(config)
    architecture = recipe.make_architecture(config, workdir, data)
    placed = jax.device_put(architecture.autoencoder, sharding.replicated(mesh))  # once, for steps and previews
    architecture = dataclasses.replace(architecture, autoencoder=placed)
    if config.data.latents:
        recipe.check_latents(config, architecture.autoencoder)
    objective = recipe.make_objective(config)
    inputs = recipe.make_inputs(config, architecture.autoencoder)
    tx = make_optimizer(config.optim, config.train.steps)
    preview = previews.Preview(architecture, config, workdir) if config.train.sample_every else None
    state, samples = restore_or_init(config, architecture, tx, mesh, workdir)
    count = sum(p.size for p in jax.tree.leaves(state.params))
    say(f"{count / 1e6:.2f} M parameters, {mesh.size} {jax.devices()[0].platform} device(s), workdir {workdir}")
    if int(state.step) >= config.train.steps:
        say(f"nothing to do: step {int(state.step)} of train.steps = {config.train.steps} is reached")
        return
    batches = pipeline.batches(
        data.source,
        data.transforms,
        config.train.batch,
        seed=config.seed,
        step=samples // config.train.batch,
        host=jax.process_index(),
        hosts=jax.process_count(),
        workers=config.data.workers,
    )
    train_step = make_train_step(
        architecture,
        objective,
        tx,
        mesh,
        seed=config.seed,
        accumulate=config.train.accumulate,
        ema_decay=config.optim.ema_decay,
        ema_ramp=config.optim.ema_ramp,
    )
    inputs = jax.device_put(inputs, sharding.replicated(mesh))
    workdir.mkdir(parents=True, exist_ok=True)
    architecture.save(workdir)
    files.write(workdir / "config.json", (config.to_json_best_effort(indent=1) + "\n").encode())
    with (
        checkpoint.make_manager(workdir, config.train.save_every, config.train.keep) as manager,
        contextlib.closing(telemetry.Writer(workdir, int(state.step))) as writer,
    ):
        run_loop(
            config,
            state,
            samples,
            lambda state: train_step(state, inputs, sharding.to_global(next(batches), mesh)),
            manager,
            writer,
            preview,
        )
    say(f"done: {config.train.steps} steps; weights in {workdir / checkpoint.FOLDER}")


def main(argv: list[str]) -> None:
    train(flags.FLAGS.config, flags.FLAGS.workdir)


if __name__ == "__main__":
    errors.define_flags()
    errors.run(main)
