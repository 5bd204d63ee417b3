"""Scores of one modality from others that are given, while all else is ignored: "rgb -> depth", "depth+mask -> rgb"."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgen_jax.metrics import dense, report
from mmgen_jax.metrics.examples import Examples
from mmgen_jax.metrics.report import Scenes, Scores
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.metrics.shuffled import Shuffled
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.sampling.sampler import Arrays
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import UsageError, choice

MANY = {"one": 1, "two": 2, "three": 3}  # how many are given, all sets of so many
EACH = "each"
SECTION = "any to any"  # the name of these scores in a report
SHUFFLED = f", {report.SHUFFLED}"  # what follows a task in the name of its control


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
    seeds: Sequence[int] = (0,),
    examples: Examples | None = None,
) -> list[Scores]:
    """Scores all tasks on `count` scenes, each on those that have what is given and what is made, by each seed.

    Predictions are made with `runner.understanding` with `runner.draws` combined, as those from rgb are. Those by the
    first seed are added to `examples`, to be shown.

    Returns:
      for each seed metric -> {"round_trip": value, "mean_image": value, "rgb -> depth": value, "rgb -> depth,
      shuffled": value, ...}: first what the autoencoder loses alone, which is a ceiling, and what the mean image of the
      train split scores, which sees nothing; after each task what its predictions score as those of another scene.
    """
    a, first = runner.sampler.architecture, 0
    wanted = [m for m in a.modalities if any(task.wanted == m for task in tasks)]
    models, fixed, moved = [report.Tally() for _ in seeds], report.Tally(), defaultdict[object, Shuffled](Shuffled)
    progress = Progress("any to any", len(seeds) * count * len(tasks) * runner.draws, "samples")
    for batch in scenes:
        values, there = report.truth(batch, a.modalities, facts), report.present(batch, a)
        for name, arrays in report.bounds(runner, batch, wanted, wanted, average).items():
            fixed.add(name, dense.averages(to_values(arrays, facts), values, facts, there))
        for (i, seed), task in itertools.product(enumerate(seeds), tasks):
            given, stream = {m: to_array(batch[m]) for m in task.given}, f"any to any {task}"
            made = runner.predict(given, task.wanted, seed, stream, first=first, progress=progress)
            whole = np.all([there[m] for m in task.given], axis=0)
            found = to_values(made, facts)
            others, also = moved[i, task](found, whole)
            for name, guess, counted in ((str(task), found, whole), (f"{task}{SHUFFLED}", others, also)):
                rows = {m: x & counted for m, x in there.items()}
                models[i].add(name, dense.averages(guess, values, facts, rows))
            if examples and i == 0:
                report.show(examples, str(task), task.given, made, batch, a)
        first += len(batch["present"])
    return [_by_metric(fixed.scores() | model.scores()) for model in models]


def _by_metric(columns: Scores) -> Scores:
    """Metric -> column -> value, from column -> metric -> value."""
    metrics = dict.fromkeys(metric for scores in columns.values() for metric in scores)
    return {key: {name: scores[key] for name, scores in columns.items() if key in scores} for key in metrics}


def headlines(scores: Scores) -> Scores:
    """The columns that are printed: one for each modality."""
    return {key: scores[key] for key in dense.headlines(scores)}
