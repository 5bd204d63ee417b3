"""Scores of one modality from others that are given, while all else is ignored: "rgb -> depth", "depth+mask -> rgb"."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgen_jax.data import pipeline
from mmgen_jax.metrics import dense, report
from mmgen_jax.metrics.examples import Examples
from mmgen_jax.metrics.report import Scenes, Scores
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import Averages, added
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.sampling.sampler import Arrays
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import UsageError, choice

MANY = {"one": 1, "two": 2, "three": 3}  # how many are given, all sets of so many
EACH = "each"
HEADLINES = ("rgb/psnr", "depth/absrel", "depth/l1", "normal/mean", "mask/miou")  # one for each modality


@dataclass(frozen=True)
class Task:
    """Names of what is given, and of the one modality that is made from it."""

    given: tuple[str, ...]
    wanted: str

    def __str__(self) -> str:
        return f"{'+'.join(self.given)} -> {self.wanted}"


def parse(texts: Sequence[str], modalities: Sequence[str]) -> list[Task]:
    """Parses texts as "rgb->depth", "depth+mask->each", "one->each" or "two->rgb".

    Left of the arrow are names, or "one", "two", "three" for all sets of so many; right of it a name, or "each" for
    every one that is not given. Raises UsageError.
    """
    tasks: dict[Task, None] = {}
    for text in texts:
        left, arrow, right = (part.strip() for part in text.partition("->"))
        if not arrow:
            raise UsageError(f"evaluate.tasks has {text!r}; allowed: what is given -> what is made, as 'rgb->depth'")

        def named(name: str, text: str = text) -> str:
            return choice(f"modality of {text!r}", name.strip(), modalities)

        listed = itertools.combinations(modalities, MANY[left]) if left in MANY else [map(named, left.split("+"))]
        sets, targets = [tuple(names) for names in listed], modalities if right == EACH else [named(right)]
        found = [Task(given, m) for given in sets for m in targets if m not in given]
        if not found:
            raise UsageError(f"evaluate.tasks has {text!r}, which leaves nothing to make")
        tasks |= dict.fromkeys(found)
    return list(tasks)


def evaluate(
    runner: Runner,
    scenes: Scenes,
    count: int,
    tasks: Sequence[Task],
    facts: Facts,
    average: Arrays | None = None,
    seed: int = 0,
    examples: Examples | None = None,
) -> Scores:
    """Scores all tasks on `count` scenes, each on those that have what is given and what is made.

    Predictions are made with `runner.understanding` with `runner.draws` combined, as those from rgb are. They are added
    to `examples`, to be shown.

    Returns:
      metric -> {"round_trip": value, "mean_image": value, "rgb -> depth": value, ...}: first what the autoencoder loses
      alone, which is a ceiling, and what the mean image of the train split scores, which sees nothing.
    """
    rows: dict[str, Averages] = {}
    examples = examples or Examples(facts)
    progress, first = Progress("any to any", count * len(tasks) * runner.draws, "samples"), 0
    for batch in scenes:
        for name, scores in _scores(runner, batch, tasks, facts, average, seed, first, progress, examples).items():
            rows[name] = added(rows.get(name, {}), scores)
        first += len(batch["present"])
    metrics = list(dict.fromkeys(key for scores in rows.values() for key in scores))
    return {key: {name: scores[key].value for name, scores in rows.items() if key in scores} for key in metrics}


def _scores(
    runner: Runner,
    batch: pipeline.Batch,
    tasks: Sequence[Task],
    facts: Facts,
    average: Arrays | None,
    seed: int,
    first: int,
    progress: Progress,
    examples: Examples,
) -> dict[str, Averages]:
    """Scores of one batch, whose first scene has number `first`."""
    names = runner.sampler.architecture.modalities
    there, known = report.present(batch, runner.sampler.architecture), report.truth(batch, names, facts)
    wanted = [m for m in names if any(task.wanted == m for task in tasks)]
    columns = {name: (x, there) for name, x in report.bounds(runner, batch, wanted, wanted, average).items()}
    for task in tasks:
        given, stream = {m: to_array(batch[m]) for m in task.given}, f"any to any {task}"
        made = runner.predict(given, task.wanted, seed, stream, first=first, progress=progress)
        report.show(examples, str(task), task.given, made, batch, runner.sampler.architecture)
        whole = np.all([there[m] for m in task.given], axis=0)
        columns[str(task)] = made, {m: rows & whole for m, rows in there.items()}
    return {name: dense.averages(to_values(x, facts), known, facts, rows) for name, (x, rows) in columns.items()}


def headlines(scores: Scores) -> Scores:
    """The columns that are printed: one for each modality."""
    return {key: scores[key] for key in HEADLINES if key in scores}
