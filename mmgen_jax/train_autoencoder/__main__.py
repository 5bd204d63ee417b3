"""Trains an autoencoder on tiles of one's own, for `train` to make latents with.

python -m mmgen_jax.train_autoencoder --config=shapes_autoencoder --workdir=runs/autoencoder

The same command again resumes from the newest checkpoint; of a finished run it prints the table again.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags("Folder of the run, which is begun or continued.")
    flags.DEFINE_string("profile", "", "FIRST:LAST: first and last step to trace into workdir/profile.")
    command.parse()  # before the imports below, which take seconds

import jax
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import restore
from mmgen_jax.data import train_data
from mmgen_jax.diffusion import keys
from mmgen_jax.frozen.autoencoders import arrays_file, conv
from mmgen_jax.frozen.autoencoders.conv import ConvAutoencoder
from mmgen_jax.frozen.autoencoders.conv_layers import ConvConfig
from mmgen_jax.metrics.report import table
from mmgen_jax.models import architectures, flops
from mmgen_jax.models.architectures import Params
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system import hosts, sealed
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.telemetry import profiler
from mmgen_jax.train_autoencoder import beginning, ceiling
from mmgen_jax.train_autoencoder.objective import make_training
from mmgen_jax.training import history, setup
from mmgen_jax.training import run as runs

# Settings that the shapes of the network follow from, which a run keeps.
SHAPES = tuple(f"autoencoder.{name}" for name in ("factor", "width", "blocks", "channels")) + ("data.modalities",)


def train(config: ConfigDict, workdir: epath.PathLike, profile: tuple[int, int] | None = None) -> None:
    """Parses a recipe and trains as `run` does."""
    run(settings.parse(config), workdir, profile)


def run(chosen: Settings, workdir: epath.PathLike, profile: tuple[int, int] | None = None) -> None:
    """Trains until `train.steps` as `mmgen_jax.train` does, writes the autoencoder, and prints what it loses.

    `profile` is the first and the last step to trace. Raises UsageError for bad input, and RunError for a run that
    cannot go on.
    """
    _check(chosen)
    with runs.alone(chosen, workdir) as folder:
        _check_workdir(chosen, folder)
        config = ConvConfig(
            chosen.data.modalities,
            *(getattr(chosen.autoencoder, name) for name in ("factor", "width", "blocks", "channels")),
        )
        mesh = sharding.make_mesh(**vars(chosen.mesh))
        runs.steps(chosen, _job(chosen, config, mesh), mesh, folder, profile)
        if jax.process_count() > 1:
            say(f"the same command on one host writes {arrays_file.FILE}")
            return
        found = ceiling.measured(chosen, config, restore.restore_ema(folder)[0])
        with sealed.sealing(folder, (arrays_file.FILE,)):
            arrays_file.save_arrays(folder, found)
        say(f"written: {folder / arrays_file.FILE}, for config.autoencoder.name=conv and .path={folder}")
        say(f"round trips of held-out scenes\n{table(ceiling.scores(chosen, found))}")


def _check(chosen: Settings) -> None:
    """Raises UsageError for settings that ask for something else than training an autoencoder on tiles."""
    name, latents = chosen.autoencoder.name, chosen.data.latents
    if name != ConvAutoencoder.name:
        raise UsageError(f"config key autoencoder.name is {name!r}; train_autoencoder trains {ConvAutoencoder.name!r}")
    if latents:
        raise UsageError(f"config key data.latents is {latents!r}; an autoencoder is trained on tiles: set it empty")
    if every := chosen.train.evaluate_every:
        raise UsageError(f"config key train.evaluate_every is {every}; round trips are scored every train.sample_every")


def _check_workdir(chosen: Settings, workdir: epath.Path) -> None:
    """Raises UsageError for a workdir of `mmgen_jax.train`, or of a run whose network has other shapes."""
    if (workdir / architectures.FILE).exists():
        raise UsageError(f"workdir {workdir} holds a model of mmgen_jax.train; give another one")
    changes = history.check(workdir, chosen)
    for name in SHAPES:
        if name in changes:
            before, now = changes[name]
            raise UsageError(f"config key {name} is {now!r}; the run in {workdir} was begun with {before!r}")


def _job(chosen: Settings, config: ConvConfig, mesh: jax.sharding.Mesh) -> runs.Job:
    """What is trained."""
    data = setup.open_data(chosen)
    if absent := train_data.absent(data, chosen.data.modalities):
        raise UsageError(f"config key data.modalities has {', '.join(absent)}, which no sample of the data has")
    sharding.check_batch(chosen.train.batch // chosen.train.accumulate, mesh, "train.batch / train.accumulate")

    def start(source: str) -> Params:
        if not source:
            key = keys.of_seed(chosen.seed, "init")
            return beginning.fresh(config, key, setup.spread_images(chosen, ceiling.MEASURED))
        found = conv.load(source, chosen.data.modalities)
        if found.config != config:
            raise UsageError(f"config key train.init_from is {source!r}, which has {found.config}, not {config}")
        return found.params

    def forward(autoencoder: ConvAutoencoder, images):
        return autoencoder.decode(autoencoder.encode(images))

    size = chosen.data.image_size
    images = {m: jax.ShapeDtypeStruct((1, size, size, 3), "float32") for m in chosen.data.modalities}
    once = flops.program_flops(forward, ConvAutoencoder.stand_in(chosen.autoencoder, chosen.data.modalities), images)
    return runs.Job(
        training=make_training(chosen, config, mesh),
        inputs=(),
        data=data,
        start=start,
        save=lambda _: None,
        flops=(1 + flops.BACKWARD) * once * chosen.train.batch,
        preview=ceiling.Glance(chosen, config) if chosen.train.sample_every else None,
    )


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    runs.to_the_end(lambda: train(values.config, values.workdir, profiler.parse(values.profile)))


if __name__ == "__main__":
    command.run(main, hosts.leave)
