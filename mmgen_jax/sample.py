"""Writes samples of a trained model to files.

python -m mmgen_jax.sample --config=configs/shapes_tiny.py --workdir=runs/a
python -m mmgen_jax.sample --config=configs/shapes_tiny.py --workdir=shapes-tiny \
  --config.sample.task=depth --config.sample.images.depth=depth.png --config.sample.class_id=torus

Given modalities are read from the files in `sample.images`, or else from the data set's test split.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "", "Folder for the files; empty = WORKDIR/samples/TASK.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out
from mmgen_jax.diffusion.conditioning import subset
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.settings import Data, Settings
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.system import console, files
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_config

JOINT = "category"


def given_names(task: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities that a task such as "category" or "rgb+mask" gives. Raises UsageError for unknown ones or all."""
    if task == JOINT:
        return ()
    try:
        chosen = subset(task, modalities)
    except UsageError as error:
        allowed = f"{JOINT}, or some of {', '.join(modalities)} joined by +"
        raise UsageError(f"config key sample.task is {task!r}; allowed: {allowed}") from error
    if chosen.all():
        raise UsageError(f"config key sample.task is {task!r}, which is all modalities; one must be left to generate")
    return tuple(m for m, wanted in zip(modalities, chosen, strict=True) if wanted)


def scenes(data: Data, first: int, count: int, architecture: Architecture) -> dict[str, np.ndarray]:
    """Reads values of `count` scenes of the test split from number `first` on, of modalities that all of them have."""
    names, indices = architecture.modalities, range(first, first + count)
    return held_out.values(data.dir, data.test_split, names, data.image_size, indices, architecture.facts)


def conditions(chosen: Settings, architecture: Architecture) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Returns what is given (files, or values of test scenes), and all values of these scenes, or {} for files.

    Raises UsageError for files that the task does not use, for files of only a part of the task, or without scenes.
    """
    task = chosen.sample.task
    names = given_names(task, architecture.modalities)
    paths = {m: path for m, path in vars(chosen.sample.images).items() if path}
    for m, path in paths.items():
        if m not in names:
            raise UsageError(
                f"config key sample.images.{m} is {path!r}; allowed: empty, as task {task!r} does not use it"
            )
    for m in names:
        if paths and m not in paths:
            raise UsageError(f"config key sample.images.{m} is empty; task {task!r} with files needs one for each")
    if paths or not names:
        return paths, {}
    try:
        truth = scenes(chosen.data, chosen.sample.index, chosen.sample.n, architecture)
    except UsageError as error:
        raise UsageError(f"task {task!r} needs sample.images.{names[0]} or a data set: {error}") from error
    for m in names:
        if m not in truth:
            raise UsageError(f"some scenes of {chosen.data.test_split!r} from {chosen.sample.index} on have no {m}")
    return {m: truth[m] for m in names}, truth


def run(config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike = "") -> tuple[Outputs, epath.Path]:
    """Draws samples and writes them; returns them and their folder. Raises UsageError for bad input."""
    chosen, folder = settings.parse(config), model_folders.locate(workdir)
    section = chosen.sample
    architecture = architectures.load(folder)
    check_config(chosen, architecture, workdir)
    given, truth = conditions(chosen, architecture)
    architecture.class_index(section.class_id)  # before weights are read
    here = epath.Path() if workdir in model_folders.bundled() else folder
    target = epath.Path(out) if out else here / "samples" / section.task
    files.check_place(target, "--out", folder=True)
    model = MMGen.load(workdir, section.step)
    how = dataclasses.asdict(section.options())
    outputs = model.generate(class_id=section.class_id, n=section.n, given=given, **how)
    sections = [outputs.comparison(truth)] if truth else []
    outputs.save(target, f"MMGen: {section.task}", sections)
    return outputs, target


def main(argv: Sequence[str]) -> None:
    del argv
    outputs, folder = run(flags.FLAGS.config, flags.FLAGS.workdir, flags.FLAGS.out)
    console.say(f"{len(outputs.rows)} samples ({outputs.caption}) in {folder}; look at {folder / 'gallery.html'}")


if __name__ == "__main__":
    command.run(main)
