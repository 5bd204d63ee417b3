"""Evaluates a model on held-out scenes: prints tables as they are ready, and writes metrics.json and metrics.html.

python -m mmgen_jax.evaluate --config=shapes_tiny --workdir=runs/a

--config.evaluate.tasks='("one->each",)' also scores every modality from every other one, which takes longer.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "", "File of the scores, with a .html beside it; default: metrics.json in the workdir.")
    command.parse()  # before the imports below, which take seconds

import json
import math
from collections.abc import Iterator

from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders, restore
from mmgen_jax.data import held_out, tiles
from mmgen_jax.metrics import any_to_any, dense
from mmgen_jax.metrics.examples import Examples
from mmgen_jax.metrics.page import page
from mmgen_jax.metrics.protocol import protocol, said
from mmgen_jax.metrics.report import FROM_RGB, Scores, evaluate, mean_image, scored, table
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.metrics.seeds import summarised
from mmgen_jax.models import architectures
from mmgen_jax.settings import Settings
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_classes, check_config

FILE = "metrics.json"
_BASELINE = 2000  # number of train tiles in the mean image


def _output(path: epath.PathLike, workdir: epath.PathLike) -> epath.Path:
    """The file to write: --out, or else a file in the workdir, or in the current folder for a bundled model."""
    if path != "":
        return files.path_of(path, "--out")
    return epath.Path(workdir) / FILE if (epath.Path(workdir) / restore.FOLDER).is_dir() else epath.Path(FILE)


def _places(out: epath.PathLike, workdir: epath.PathLike) -> tuple[epath.Path, epath.Path]:
    """The files to write, JSON and HTML, in places where they can be."""
    path = _output(out, workdir)
    if path.suffix.lower() == ".html":
        raise UsageError(f"--out is {path}; allowed: a file of scores such as metrics.json, the .html is beside it")
    files.check_place(path, "--out", folder=False)
    shown = path.with_suffix(".html")
    files.check_place(shown, "--out", folder=False)
    return path, shown


def _write(path: epath.Path, report: dict) -> None:
    """Writes the report as JSON, with null for NaN, which JSON does not have."""

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, (json.dumps(plain(report), indent=1) + "\n").encode())


def _print(section: str, scores: Scores, spread: Scores) -> None:
    """Prints the scores of a section that has any, without details; of pairs one for each modality."""
    if scores:
        chosen = any_to_any.headlines if section == any_to_any.SECTION else _without_details
        say(f"\n{section}\n{table(chosen(scores), chosen(spread))}")


def _without_details(scores: Scores) -> Scores:
    return {name: {k: x for k, x in column.items() if not dense.is_detail(k)} for name, column in scores.items()}


def run(config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike = "") -> dict:
    """Parses a recipe and evaluates as `score` does."""
    return score(settings.parse(config), workdir, out)


def score(chosen: Settings, workdir: epath.PathLike, out: epath.PathLike = "") -> dict:
    """Loads model and data, evaluates, prints tables as they are ready, and writes the report, which it returns."""
    stored = architectures.load(model_folders.locate(workdir))
    check_config(chosen, stored, workdir)
    check_classes(chosen.data.dir, stored, workdir)
    tasks = any_to_any.parse(chosen.evaluate.tasks, stored.modalities)
    path, shown = _places(out, workdir)
    data, names, size = chosen.data, stored.modalities, stored.image_size
    batch, read = chosen.evaluate.batch, held_out.Scenes.first
    scenes = read(data.dir, data.test_split, names, size, chosen.evaluate.n, batch, "evaluate.n")
    try:
        average = mean_image(read(data.dir, data.train_split, names, size, _BASELINE, batch), stored)
    except UsageError as error:  # a data set may have no train split
        say(f"no mean image: {error}")
        average = None
    loaded, params, step = model_folders.load_step(workdir, chosen.sample.step)
    runner = Runner.from_settings(chosen, loaded, params)
    facts = stored.facts.with_camera_of(tiles.read_facts(data.dir))
    samples, classes = chosen.evaluate.samples, len(stored.facts.class_names)
    if classes and samples % classes:
        say(f"evaluate.samples is {samples}; the first {samples % classes} of {classes} classes get one sample more")
    say(f"{scenes.count} held-out scenes, {samples} samples")
    counts = scored(scenes, stored)
    for m, count in counts.items():
        if count < scenes.count:
            say(f"{m}: {count} of {scenes.count} scenes have a pixel to compare with; the others count in no score")
    examples = Examples(facts)
    seeds = [(chosen.seed + i) % 2**31 for i in range(chosen.evaluate.seeds)]  # seeds are below 2^31

    def sections() -> Iterator[tuple[str, list[Scores]]]:
        yield from evaluate(
            runner, scenes, counts, samples=samples, facts=facts, average=average, seeds=seeds, examples=examples
        )
        if tasks:
            made = any_to_any.evaluate(runner, scenes, scenes.count, tasks, facts, average, seeds, examples)
            yield any_to_any.SECTION, made

    scores: dict[str, Scores] = {}
    spread: dict[str, Scores] = {}
    for section, found in sections():
        scores[section], spread[section] = summarised(found)
        _print(section, scores[section], spread[section])
    model = str(workdir) if step is None else f"{workdir}, step {step}"
    compared = {str(task): examples.pixels(str(task))[task.wanted] for task in tasks}
    how = protocol(chosen, model, runner, facts, counts, examples.pixels(FROM_RGB), compared)
    say("\nprotocol\n" + "\n".join(f"{name}: {text}" for name, text in said(how).items()))
    report = {"scenes": scenes.count, "scored": counts, "samples": samples, "protocol": how} | scores
    if len(seeds) > 1:
        report["spread"] = spread
    _write(path, report)
    files.write(shown, page(f"Evaluation of {epath.Path(workdir).name}", report, examples))
    say(f"\nwritten: {path}, {shown}")
    return report


def main(argv: list[str]) -> None:
    del argv
    run(flags.FLAGS.config, flags.FLAGS.workdir, flags.FLAGS.out)


if __name__ == "__main__":
    command.run(main)
