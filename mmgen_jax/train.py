"""The loop and nothing else.

python -m mmgen_jax.train --config=configs/shapes_tiny.py --workdir=runs/a

The same command again resumes from the newest checkpoint.
"""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
from collections.abc import Callable, Iterator

import jax
import numpy as np
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import architecture as architectures
from mmgen_jax import bundles, checkpoint, errors, files, flow, previews, settings, sharding, telemetry
from mmgen_jax.architecture import Architecture
from mmgen_jax.conditioning import TIME_SAMPLERS, parse_mix
from mmgen_jax.data import pipeline, tiles
from mmgen_jax.errors import RunError, UsageError
from mmgen_jax.modalities import PALETTE, REGIONS, to_array
from mmgen_jax.models import vae
from mmgen_jax.telemetry import say
from mmgen_jax.train_state import TrainState, init_state, make_optimizer
from mmgen_jax.train_step import Objective, make_train_step

FIT_TILES = 4096  # that the patch_pca autoencoder is fitted on


def make_autoencoder(config: ConfigDict) -> vae.Autoencoder:
    """The config's autoencoder, fitted on the first tiles of the train split where it has to be."""
    names, chosen = config.data.modalities, config.autoencoder
    if chosen.name == "identity":
        return vae.Identity(names, chosen.factor)
    count = min(FIT_TILES, len(tiles.read_tiles(config.data.dir, config.data.train_split)))
    batch = pipeline.load(config.data.dir, config.data.train_split, names, config.data.image_size, range(count))
    images = {m: to_array(batch[m][batch["present"][:, i]]) for i, m in enumerate(names)}
    components = dict(zip(names, chosen.components, strict=True))
    return vae.fit_patch_pca(images, chosen.factor, components, chosen.whitening)


def make_architecture(config: ConfigDict, workdir: epath.Path) -> Architecture:
    """The architecture that the config asks for; the workdir's autoencoder is kept if it has one.

    Raises UsageError if the workdir holds another architecture.
    """
    metadata = tiles.read_metadata(config.data.dir)
    found = architectures.load(workdir) if (workdir / architectures.FILE).exists() else None
    source = architectures.load(bundles.locate(config.train.init_from)) if config.train.init_from else None
    for other, where in ((found, workdir), (source, config.train.init_from)):
        if other:
            bundles.check_latents(config, other, where)
    fitted = found or source
    wanted = architectures.from_config(
        config,
        fitted.autoencoder if fitted else make_autoencoder(config),
        tiles.class_names(config.data.dir),
        np.array(metadata.get("palette", PALETTE), np.uint8),
        tuple(metadata.get("regions", REGIONS)),
    )
    for other, where in ((found, workdir), (source, config.train.init_from)):
        conflict = architectures.difference(wanted, other) if other else None
        if conflict:
            raise UsageError(f"{where} holds another architecture: the config's {conflict}")
    return wanted


def make_objective(config: ConfigDict) -> Objective:
    """The config's objective section as a value."""
    chosen = config.objective
    return Objective(
        path=flow.PATHS[chosen.path],
        mix=parse_mix(chosen.mix, config.data.modalities),
        time_sampler=TIME_SAMPLERS[chosen.time],
        loss_weights=chosen.loss_weights,
        alignment_weight=chosen.alignment_weight,
        label_dropout=chosen.label_dropout,
    )


def restore_or_init(config: ConfigDict, architecture: Architecture, tx, mesh, manager) -> tuple[TrainState, int]:
    """The state to start from and the number of samples it has seen.

    Order of sources: the newest checkpoint of the workdir, `train.init_from`, fresh parameters.
    """
    make = functools.partial(init_state, architecture, tx)
    key = jax.random.fold_in(jax.random.key(config.seed), 2**31 - 1)  # no step has this number
    where = sharding.replicated(mesh)
    if manager.all_steps():
        shapes = jax.eval_shape(make, key)
        abstract = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)
        state, meta = checkpoint.restore(manager, abstract)
        say(f"resuming from step {int(state.step)} in {manager.directory}")
        return state, meta["samples"]
    state = jax.jit(make, out_shardings=where)(key)
    if config.train.init_from:
        _, params = bundles.load(config.train.init_from)
        ema = jax.device_put(params, where)
        state = TrainState(state.step, jax.tree.map(np.copy, params), ema, state.opt_state)
        state = jax.device_put(state, where)
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


def run_loop(config: ConfigDict, state: TrainState, samples: int, train_step, batches, mesh, manager, writer, preview):
    """Steps until `train.steps`; metrics are read one step late, so that dispatch never waits.

    `samples` is the number of samples that the state has seen: the position in the data.
    """
    train = config.train
    first = int(state.step)
    progress = telemetry.Progress(first, train.steps, train.batch)
    window: list[dict] = []
    with stop_requests() as requested:
        for step in range(first + 1, train.steps + 1):
            state, metrics = train_step(state, sharding.to_global(next(batches), mesh))
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
                meta = {"step": step, "samples": samples + (step - first) * train.batch, "seed": config.seed}
                checkpoint.save(manager, step, state, meta, force=last or bool(stop))
            if train.sample_every and (last or step % train.sample_every == 0):
                writer.image(step, "samples", preview(state.ema, step))
            if stop:
                manager.wait_until_finished()
                say(f"stopped at step {step} by signal {stop}; the same command continues from here")
                sys.exit(128 + stop)
    manager.wait_until_finished()


def train(config: ConfigDict, workdir: str) -> None:
    """Trains to `train.steps`, resuming from what the workdir holds. Raises UsageError and RunError."""
    settings.validate(config)
    workdir = epath.Path(workdir)
    mesh = sharding.make_mesh()
    sharding.check_batch(config.train.batch // config.train.accumulate, mesh, "train.batch / train.accumulate")
    architecture = make_architecture(config, workdir)
    objective = make_objective(config)
    tx = make_optimizer(config.optim, config.train.steps)
    reader = functools.partial(
        pipeline.train_batches,
        config.data.dir,
        config.data.train_split,
        config.data.modalities,
        config.data.image_size,
        config.train.batch,
        seed=config.seed,
        flip=config.data.flip,
        host=jax.process_index(),
        hosts=jax.process_count(),
        workers=config.data.workers,
    )
    workdir.mkdir(parents=True, exist_ok=True)
    architecture.save(workdir)
    files.write(workdir / "config.json", (config.to_json_best_effort(indent=1) + "\n").encode())

    with checkpoint.make_manager(workdir, config.train.save_every, config.train.keep) as manager:
        state, samples = restore_or_init(config, architecture, tx, mesh, manager)
        count = sum(p.size for p in jax.tree.leaves(state.params))
        say(f"{count / 1e6:.2f} M parameters, {mesh.size} {jax.devices()[0].platform} device(s), workdir {workdir}")
        if int(state.step) >= config.train.steps:
            say(f"nothing to do: step {int(state.step)} of train.steps = {config.train.steps} is reached")
            return
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
        preview = previews.Preview(architecture, config, workdir) if config.train.sample_every else None
        writer = telemetry.Writer(workdir, int(state.step))
        batches = reader(step=samples // config.train.batch)
        with contextlib.closing(writer):
            run_loop(config, state, samples, train_step, batches, mesh, manager, writer, preview)
    say(f"done: {config.train.steps} steps; weights in {workdir / checkpoint.FOLDER}")


def main(argv: list[str]) -> None:
    train(flags.FLAGS.config, flags.FLAGS.workdir)


if __name__ == "__main__":
    errors.define_flags()
    errors.run(main)
