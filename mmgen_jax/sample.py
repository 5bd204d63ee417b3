"""Writes samples of a trained model to files.

python -m mmgen_jax.sample --config=shapes_tiny --workdir=runs/a
python -m mmgen_jax.sample --config=shapes_tiny --workdir=shapes-tiny \
  --config.sample.given.depth=depth.png --config.sample.class_id=torus --config.sample.wanted=rgb

What is given is read from the files in `sample.given`, or, as `sample.task` says, from the data set's test split.
Samples are written as they are made, and the same command goes on where it was stopped. `--worker=0 --workers=4` makes
the first quarter of them, beside other processes in the same folder.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "", "Folder for the files; empty = WORKDIR/samples/TASK.")
    flags.DEFINE_bool("npz", False, "Also write all rgb images to rgb.npz, for evaluations like ADM's.")
    command.define_share("samples")
    command.parse()  # before the imports below, which take seconds

import dataclasses
import functools
import operator
import sys
from collections.abc import Callable, Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data.latents.plan import digest
from mmgen_jax.modalities import kept
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.sampling import classes, guides
from mmgen_jax.sampling.asked import Asked
from mmgen_jax.sampling.given import (
    Given,
    Values,
    from_scenes,
    from_values,
    given_values,
    known_pixels,
    named,
    rows_of,
    set_paths,
    values_of,
)
from mmgen_jax.sampling.options import WEAK, Options
from mmgen_jax.sampling.others import Company
from mmgen_jax.sampling.requests import batch_size, batches
from mmgen_jax.sampling.solvers import SOLVERS
from mmgen_jax.sampling.starts import slerp
from mmgen_jax.sampling.training_free import prepared
from mmgen_jax.settings import Sample, Settings
from mmgen_jax.show.outputs import GALLERY, Outputs, file_names
from mmgen_jax.show.sample_folder import SampleFolder
from mmgen_jax.system import files, preemption
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import UsageError, about_setting, choice
from mmgen_jax.system.shares import ALL, Share
from mmgen_jax.training.architecture import check_config

JOINT = "category"
EACH = "each"  # as a class: all of them in turn


def given_names(task: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities that a task such as "category" or "rgb+mask" gives. Raises UsageError for unknown ones."""
    if task == JOINT:
        return ()
    return named("sample.task", task, modalities, f"{JOINT}, or ")


def task_of(chosen: Settings, modalities: Sequence[str]) -> str:
    """The task of the request: that of the settings, or where they say none, the modalities whose files are given."""
    given, task = set_paths(chosen.sample.given), chosen.sample.task
    for m, path in given.items():
        choice(f"modality of sample.given.{m} = {path!r}", m, modalities)
        if other := vars(chosen.sample.images)[m]:
            raise UsageError(f"config key sample.images.{m} is {other!r}; allowed: empty, as sample.given.{m} is set")
    return "+".join(m for m in modalities if m in given) if given and task == JOINT else task


def conditions(chosen: Settings, task: str, names: Sequence[str], architecture: Architecture) -> Given:
    """What is given of the modalities `names` of a task: files, or scenes of the test split, read when they are needed.

    Raises UsageError for files that the task does not use, for files of only a part of the task, or without scenes.
    """
    sample, given = chosen.sample, set_paths(chosen.sample.given)
    paths = set_paths(sample.images) | given
    for m, path in paths.items():
        if m not in names:
            key = f"sample.{'given' if m in given else 'images'}.{m}"
            raise UsageError(f"config key {key} is {path!r}; allowed: empty, as task {task!r} does not use it")
    for m in names:
        if paths and m not in paths:
            raise UsageError(f"config key sample.images.{m} is empty; task {task!r} with files needs one for each")
    if paths or not names:
        values: Values = {}
        for m in names:
            with about_setting(f"sample.{'given' if m in given else 'images'}.{m}", paths[m]):
                values |= given_values({m: paths[m]}, sample.n, architecture, sample.whole)
        return from_values(values)
    data = chosen.data
    try:
        return from_scenes(data.dir, data.test_split, sample.index, sample.n, names, architecture)
    except UsageError as error:
        raise UsageError(f"task {task!r} needs sample.images.{names[0]} or a data set: {error}") from error


def _read(section: Sample, role: str, read: Callable[[dict[str, str]], Values]) -> Values:
    """Modality -> what `read` makes of its file, for all files that the settings of a role name."""
    found: Values = {}
    for m, path in set_paths(getattr(section, role)).items():
        with about_setting(f"sample.{role}.{m}", path):
            found |= read({m: path})
    return found


def company(section: Sample, first: Architecture) -> Company:
    """The models of a request, without their weights. Raises UsageError for one that is not there, or does not fit."""
    told, weak = {}, None
    for m, path in set_paths(section.models).items():
        with about_setting(f"sample.models.{m}", path):
            told[m] = architectures.load(model_folders.locate(path))
            Company(first, {m: told[m]})
    if section.weak:
        with about_setting("sample.weak", section.weak):
            weak = architectures.load(model_folders.locate(section.weak))
            Company(first, weak=weak)
    return Company(first, told, weak)


def joined(section: Sample, first: MMGen) -> tuple[MMGen, dict[str, object]]:
    """The model together with those that have a say, and what tells the weights of these from others."""
    paths = set_paths(section.models) | ({WEAK: section.weak} if section.weak else {})
    read: dict[str, tuple[Architecture, Params]] = {}
    for name, path in paths.items():
        with about_setting("sample.weak" if name == WEAK else f"sample.models.{name}", path):
            read[path] = read.get(path) or model_folders.load(path)
    made = {path: MMGen(*parts) for path, parts in read.items()}
    weights: dict[str, object] = {f"the weights of {name}": digest(read[path][1]) for name, path in paths.items()}
    others = {name: made[path] for name, path in paths.items()}
    weak = others.pop(WEAK, None)
    return first.joined(others, weak), weights


def classes_of(section: Sample, architecture: Architecture) -> Callable[[np.ndarray], list[int] | int | None]:
    """Function of the numbers of samples to the indices of their classes: one or none for all, or all in turn.

    Raises UsageError for a class that the model does not have.
    """
    known, name = len(architecture.facts.class_names), section.class_id
    if name == EACH and EACH not in architecture.facts.class_names:
        if not known:
            raise UsageError(f"config key sample.class_id is {name!r}; allowed: empty, as the model has no classes")
        return lambda numbers: (numbers % known).tolist()
    index = architecture.class_index(name)
    return lambda _: None if index == architecture.null_class else index


# Records of earlier versions have these with any value, and nothing else that is at its default.
_ALWAYS = ("class_id", "solver", "steps", "guidance", "guidance_interval", "given_time", "seed")


def _made_by(chosen: Settings, task: str, source: dict[str, object], weights: object) -> dict[str, object]:
    """All that a sample depends on besides its number; not the batch that it is computed in."""
    section = chosen.sample
    names = {field.name for field in dataclasses.fields(Options)} - {"batch"} | {"to_seed", "invert_class"}
    if section.to_seed >= 0 or set_paths(section.invert_to):
        source = source | {"sample.n": section.n}  # on the way from one noise to the other, the share of each
    how = {
        f"sample.{name}": value
        for name, field, value in settings.declared(chosen.sample)
        if name in _ALWAYS or (name.split(".")[0] in names and value != field.default)
    }
    return {"sample.task": task} | how | source | {"the weights": digest(weights)}


def _folder_name(section: Sample, task: str, asked: Asked, given: Given) -> str:
    """Name of the folder of a request: the task, and what else it asks for."""
    parts = [*(f"part of {m}" for m in asked.partial), *(f"from {m}" for m in asked.start)]
    parts += [*(f"inverted {m}" for m in given.inverted), *(f"to another {m}" for m in given.ends)]
    parts += [f"to seed {section.to_seed}"] if section.to_seed >= 0 else []
    parts += [*(["via", section.via] if section.via else []), *(["to", section.wanted] if section.wanted else [])]
    return " ".join([task, *parts])


def run(
    config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike = "", npz: bool = False, share: Share = ALL
) -> epath.Path:
    """Draws samples, or a share of them, writes them to a folder as they are made, and returns it.

    Samples that are there already are not made again. A signal to stop ends the process, with nothing half-written.
    Raises UsageError for bad input.
    """
    share.check()
    if npz and not share.is_all:
        raise UsageError(f"--npz is of all samples; give it without --worker={share.worker}, when all are there")
    chosen, folder = settings.parse(config), model_folders.locate(workdir)
    section, architecture = chosen.sample, architectures.load(folder)
    check_config(chosen, architecture, workdir)
    models = company(section, architecture)
    architecture = models.architecture
    task = task_of(chosen, architecture.modalities)
    names, options = given_names(task, architecture.modalities), section.options()
    given = conditions(chosen, task, names, architecture)
    given = given.keeping(_read(section, "keep", lambda file: known_pixels(file, names, section.n, architecture)))
    given = given.beginning(
        *(
            _read(section, role, functools.partial(values_of, role, n=section.n, architecture=architecture))
            for role in ("start", "invert", "invert_to")
        )
    )
    size, known = architecture.image_size, _guides(section, architecture.image_size)
    guide = guides.Together(tuple(known.values())) if known else None
    whole = tuple(m for m in names if m not in given.known)
    if len(whole) == len(architecture.modalities):
        raise UsageError(f"config key sample.task is {task!r}, which is all modalities; one must be left to generate")
    classes.of_text(section.classes, architecture)
    asked = Asked(
        options,
        architecture.modalities,
        given=options.seen(whole, architecture.modalities),
        source=whole,
        partial=tuple(given.known),
        start=tuple(given.start),
        conditional=classes_of(section, architecture)(np.arange(1)) is not None,
        noise=bool(given.inverted) or section.to_seed >= 0,
        guided=guide is not None,
    )
    asked.check(architecture.path)
    models.check(asked)
    made, seen = asked.targets, asked.given
    for key, part in known.items():
        with about_setting(f"sample.{key}", operator.attrgetter(key)(section)):
            prepared(part, section.n, made, size)  # before weights are read, as all of the above
    _check_noise(section, given, made, architecture)
    shown = [m for m in architecture.modalities if m in seen or m in made]
    saved = named("sample.save", section.save, shown) if section.save else tuple(shown)
    if npz and "rgb" not in saved:
        raise UsageError(f"--npz is of rgb; files are written of {', '.join(saved)}")
    here = epath.Path() if workdir in model_folders.bundled() else folder
    target = files.path_of(out, "--out") if out else here / "samples" / _folder_name(section, task, asked, given)
    files.check_place(target, "--out", folder=True)
    first = model_folders.load(workdir, section.step)
    model, theirs = joined(section, MMGen(*first))
    factors = (
        {"the calibration": dict(architecture.calibration)} if section.draws > 1 and architecture.calibration else {}
    )
    source = given.source | guides.source(guide) | theirs | factors
    made_by = _made_by(chosen, task, source, (first[0].autoencoder, first[1]))
    worker = f"worker-{share.worker}-of-{share.workers}"
    with files.alone(target) if share.is_all else files.among(target, worker):
        uncertain = [m for m in saved if m in made] if section.draws > 1 else ()
        files_of = file_names(saved, architecture.facts, uncertain)
        samples = SampleFolder(target, files_of, section.n, made_by, share)
        _fill(samples, section, task, model, given, guide)
        if npz:
            samples.write_npz("rgb.npz")
    return target


def _guides(section: Sample, size: int) -> dict[str, guides.Points | guides.Region]:
    """Name of a setting -> the guide that it asks for. Raises UsageError for files that cannot be read."""
    found: dict[str, guides.Points | guides.Region] = {}
    for role, make in (("points", guides.points), ("unscaled", guides.unscaled)):
        for m, path in set_paths(getattr(section, role)).items():
            with about_setting(f"sample.{role}.{m}", path):
                found[f"{role}.{m}"] = make(m, guides.read_rows(m, path))
    if section.region.mask:
        with about_setting("sample.region.mask", section.region.mask):
            inside = kept.read("region", section.region.mask, size)
            found["region.mask"] = guides.region("rgb", inside, section.region.colour)
    return found


def _check_noise(section: Sample, given: Given, made: Sequence[str], architecture: Architecture) -> None:
    """Raises UsageError for noise of files or seeds that means nothing in a request."""
    for m in given.inverted:
        if m not in made or m in given.start:
            other = "has a start" if m in given.start else "is not made"
            raise UsageError(
                f"config key sample.invert.{m} is {vars(section.invert)[m]!r}; allowed: empty, as {m} {other}"
            )
    if section.invert_class and not given.inverted:
        raise UsageError(f"config key sample.invert_class is {section.invert_class!r}, but nothing is in sample.invert")
    architecture.class_index(section.invert_class)
    moving, key = section.to_seed >= 0, "sample.to_seed" if section.to_seed >= 0 else "sample.invert"
    if moving and given.inverted:
        raise UsageError(f"config key sample.to_seed is {section.to_seed}; allowed: -1, as files are inverted")
    ends = {f"sample.invert_to.{m}": path for m, path in set_paths(section.invert_to).items()}
    for m in given.inverted.keys() ^ given.ends.keys() if ends else ():
        one, other = ("invert", "invert_to") if m in given.inverted else ("invert_to", "invert")
        raise UsageError(f"config key sample.{one}.{m} is set, and sample.{other}.{m} is empty; allowed: both or none")
    for name, value in (ends | ({"sample.to_seed": section.to_seed} if moving else {})).items():
        if section.n < 2:
            raise UsageError(f"config key {name} is {value!r}, which needs sample.n of at least 2")
    if (moving or given.inverted) and SOLVERS[section.solver].stochastic:
        raise UsageError(
            f"config key sample.solver is {section.solver!r}, which draws noise; {key} needs one that does not"
        )


def _noise(section: Sample, model: MMGen, given: Given) -> Callable[[np.ndarray], Values | None]:
    """Function of the numbers of samples to the noise from which they are made, or to None where it is drawn."""
    if section.to_seed >= 0:
        ends = [model.noise(seed) for seed in (section.seed, section.to_seed)]
    elif given.inverted:
        values, how = given.values(np.arange(section.n)), section.options()
        ends = [
            model.invert(
                photos, values, section.invert_class, given_time=how.given_time, seed=how.seed, batch=how.batch
            )
            for photos in (given.inverted, given.ends)
            if photos
        ]
    else:
        return lambda _: None
    way = np.linspace(0, 1, section.n, dtype=np.float32)

    def noise(numbers: np.ndarray) -> Values:
        own = [rows_of(end, numbers) for end in ends]
        between = own[0] if len(own) == 1 else slerp(own[0], own[1], way[numbers])
        return {m: np.asarray(z) for m, z in between.items()}

    return noise


def _fill(made: SampleFolder, section: Sample, task: str, model: MMGen, given: Given, guide: object) -> None:
    """Makes the samples that a folder lacks, and its gallery when there are those that it shows."""
    todo, unseen, options = np.array(made.todo(), int), made.unseen(), section.options()
    passed = _noise(section, model, given) if todo.size else lambda _: None
    class_ids = classes_of(section, model.architecture)
    progress, shown = Progress("sample", len(todo), "samples"), list[tuple[Outputs, Values]]()
    if len(todo) < len(made.mine):
        say(f"{len(made.mine) - len(todo)} of {len(made.mine)} samples are there already")
    with preemption.requests() as requests:
        try:
            for rows in batches(len(todo), batch_size(len(made.mine), section.batch)):
                with requests.interruptible():  # not while files are written
                    numbers = todo[rows]
                    values, known = given.values(numbers), rows_of(given.known, numbers)
                    start, noise = rows_of(given.start, numbers), passed(numbers)
                    outputs = model.draw(
                        options, class_ids(numbers), numbers, values, known, start, noise, guide, lambda _: None
                    )
                    truth = given.truth(numbers) if unseen and not section.via else {}
                fresh = np.unique(numbers).tolist()  # the last batch repeats its last sample
                made.write(outputs, fresh)
                progress(len(fresh))
                shown += [(outputs, truth)] if unseen else []
                if unseen and fresh[-1] + 1 >= unseen:
                    _show(made.path, task, shown, unseen)
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
    share = Share(values.worker, values.workers)
    folder = run(values.config, values.workdir, values.out, values.npz, share)
    seen = f"; look at {folder / GALLERY}" if (folder / GALLERY).exists() else ""
    say(f"samples in {folder}{seen}")


if __name__ == "__main__":
    command.run(main)
