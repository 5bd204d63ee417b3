"""Trains a model on one host or many.

python -m mmgen_jax.train --config=shapes_tiny --workdir=runs/a

The same command again resumes from the newest checkpoint.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags("Folder of the run, which is begun or continued.")
    flags.DEFINE_string("profile", "", "FIRST:LAST: first and last step to trace into workdir/profile.")
    command.parse()  # before the imports below, which take seconds

import dataclasses

import jax
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.metrics.in_training import InTraining
from mmgen_jax.models import flops
from mmgen_jax.models.architectures import Params
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system import hosts
from mmgen_jax.telemetry import profiler
from mmgen_jax.training import class_table, scale_embed, setup
from mmgen_jax.training import run as runs
from mmgen_jax.training.preview import Preview


def train(config: ConfigDict, workdir: epath.PathLike, profile: tuple[int, int] | None = None) -> None:
    """Parses a recipe and trains as `run` does."""
    run(settings.parse(config), workdir, profile)


def run(chosen: Settings, workdir: epath.PathLike, profile: tuple[int, int] | None = None) -> None:
    """Trains until `train.steps`, and resumes from the newest checkpoint in the workdir if there is one.

    `profile` is the first and the last step to trace. Nothing is written before everything that the settings name has
    been read and fits. Raises UsageError for bad input, and RunError for a run that cannot go on.
    """
    with runs.alone(chosen, workdir) as folder:
        mesh = sharding.make_mesh(**vars(chosen.mesh))
        runs.steps(chosen, _job(chosen, folder, mesh), mesh, folder, profile)


def _job(chosen: Settings, workdir: epath.Path, mesh: jax.sharding.Mesh) -> runs.Job:
    """What a workdir trains, which no other run uses."""
    data = setup.open_data(chosen)
    architecture = setup.make_architecture(chosen, workdir, data)
    placed = jax.device_put(architecture.autoencoder, sharding.replicated(mesh))  # once, for steps and previews
    architecture = dataclasses.replace(architecture, autoencoder=placed)
    if chosen.data.latents:
        setup.check_latents(chosen, architecture.autoencoder)

    def start(source: str) -> Params | None:
        if not source:
            return None
        theirs, params = model_folders.load(source)
        return scale_embed.fit(class_table.fit(params, theirs, architecture), architecture)

    return runs.Job(
        training=setup.assemble(chosen, architecture, mesh),
        inputs=setup.make_inputs(chosen, architecture.autoencoder),
        data=data,
        start=start,
        save=architecture.save,
        flops=flops.train_step_flops(architecture, chosen.train.batch),
        preview=Preview(architecture, chosen, workdir, mesh) if chosen.train.sample_every else None,
        scores=InTraining(architecture, chosen, mesh) if chosen.train.evaluate_every else None,
    )


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    runs.to_the_end(lambda: train(values.config, values.workdir, profiler.parse(values.profile)))


if __name__ == "__main__":
    command.run(main, hosts.leave)
