"""Writes samples of a trained model to files.

python -m mmgen_jax.sample --config=configs/shapes_tiny.py --workdir=runs/a
python -m mmgen_jax.sample --config=configs/shapes_tiny.py --workdir=shapes-tiny \
  --config.sample.task=depth --config.sample.images.depth=depth.png --config.sample.class_id=torus

Given modalities are read from the files in `sample.images`, or else from the data set's test split. Samples are written
as they are made, and the same command goes on where it was stopped.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "", "Folder for the files; empty = WORKDIR/samples/TASK.")
    flags.DEFINE_bool("npz", False, "Also write all rgb images to rgb.npz, for evaluations like ADM's.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data.latents.plan import digest
from mmgen_jax.diffusion.conditioning import subset
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling.given import Given, Values, from_files, from_scenes
from mmgen_jax.sampling.requests import batch_size, batches
from mmgen_jax.sampling.sampler import Options
from mmgen_jax.settings import Settings
from mmgen_jax.show.outputs import GALLERY, Outputs, file_names
from mmgen_jax.show.sample_folder import SampleFolder
from mmgen_jax.system import files, preemption
from mmgen_jax.system.console import Progress, say
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


def conditions(chosen: Settings, architecture: Architecture) -> Given:
    """What is given: files, or scenes of the test split, which are read when they are needed.

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
        return from_files(paths, chosen.sample.n, architecture)
    data, sample = chosen.data, chosen.sample
    try:
        return from_scenes(data.dir, data.test_split, sample.index, sample.n, names, architecture)
    except UsageError as error:
        raise UsageError(f"task {task!r} needs sample.images.{names[0]} or a data set: {error}") from error


def _made_by(chosen: Settings, source: dict[str, object], weights: object) -> dict[str, object]:
    """All that a sample depends on besides its number; not the batch that it is computed in."""
    names = {"task", "class_id", *(field.name for field in dataclasses.fields(Options))} - {"batch"}
    how = {f"sample.{name}": value for name, _, value in settings.declared(chosen.sample) if name in names}
    return how | source | {"the weights": digest(weights)}


def run(config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike = "", npz: bool = False) -> epath.Path:
    """Draws samples, writes them to a folder as they are made, and returns it. Raises UsageError for bad input.

    Samples that are there already are not made again. A signal to stop ends the process, with nothing half-written.
    """
    chosen, folder = settings.parse(config), model_folders.locate(workdir)
    section, architecture = chosen.sample, architectures.load(folder)
    check_config(chosen, architecture, workdir)
    if npz and "rgb" not in architecture.modalities:
        raise UsageError(f"--npz is of rgb; the model has {', '.join(architecture.modalities)}")
    given = conditions(chosen, architecture)
    architecture.class_index(section.class_id)  # before weights are read
    here = epath.Path() if workdir in model_folders.bundled() else folder
    target = epath.Path(out) if out else here / "samples" / section.task
    files.check_place(target, "--out", folder=True)
    architecture, params = model_folders.load(workdir, section.step)
    made_by = _made_by(chosen, given.source, (architecture.autoencoder, params))
    with files.alone(target):
        names = file_names(architecture.modalities, architecture.facts)
        made = SampleFolder(target, names, section.n, made_by)
        _fill(made, chosen, MMGen(architecture, params), given)
        if npz:
            made.write_npz("rgb.npz")
    return target


def _fill(made: SampleFolder, chosen: Settings, model: MMGen, given: Given) -> None:
    """Makes the samples that a folder lacks, and its gallery when there are those that it shows."""
    section, todo, unseen = chosen.sample, np.array(made.todo(), int), made.unseen()
    how = dataclasses.asdict(section.options()) | {"progress": lambda _: None}
    progress, shown = Progress("sample", len(todo), "samples"), list[tuple[Outputs, Values]]()
    if len(todo) < section.n:
        say(f"{section.n - len(todo)} of {section.n} samples are there already")
    with preemption.requests() as requests:
        try:
            for rows in batches(len(todo), batch_size(section.n, section.batch)):
                with requests.interruptible():  # not while files are written
                    numbers = todo[rows]
                    outputs = model.generate(section.class_id, numbers, given.values(numbers), **how)
                    truth = given.truth(numbers) if unseen else {}
                fresh = np.unique(numbers).tolist()  # the last batch repeats its last sample
                made.write(outputs, fresh)
                progress(len(fresh))
                shown += [(outputs, truth)] if unseen else []
                if unseen and fresh[-1] + 1 >= unseen:
                    _show(made.path, section.task, shown, unseen)
                    unseen, shown = 0, []
        except preemption.StopRequested:
            say(f"stopped; the same command goes on from here, in {made.path}")
            sys.exit(preemption.exit_code(requests.received))


def _show(folder: epath.Path, task: str, shown: Sequence[tuple[Outputs, Values]], count: int) -> None:
    """Writes the pictures of the first `count` samples, compared with the truth of modalities that all of them have."""
    outputs = Outputs.joined([part for part, _ in shown], count)
    names = [m for m in outputs if all(m in truth for _, truth in shown)]
    truth = {m: np.concatenate([part[m] for _, part in shown])[:count] for m in names}
    outputs.show(folder, f"MMGen: {task}", [outputs.comparison(truth)] if truth else [])


def main(argv: Sequence[str]) -> None:
    del argv
    values = flags.FLAGS
    folder = run(values.config, values.workdir, values.out, values.npz)
    say(f"samples in {folder}; look at {folder / GALLERY}")


if __name__ == "__main__":
    command.run(main)
