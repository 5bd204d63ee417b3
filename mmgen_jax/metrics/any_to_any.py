"""Scores of one modality from others that are given, while all else is ignored: "rgb -> depth", "depth+mask -> rgb"."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmgen_jax.data import pipeline
from mmgen_jax.metrics import dense
from mmgen_jax.metrics.report import Scenes, Scores, truth
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import Averages, added
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.sampling.sampler import Arrays
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import UsageError, choice

MANY = {"one": 1, "two": 2, "three": 3}  # how many are given, all sets of so many
EACH = "each"


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
        named = tuple(
            choice(f"modality of {text!r}", m.strip(), modalities) for m in left.split("+") if left not in MANY
        )
        sets = itertools.combinations(modalities, MANY[left]) if left in MANY else [named]
        targets = modalities if right == EACH else [choice(f"modality of {text!r}", right, modalities)]
        found = [Task(tuple(given), m) for given in sets for m in targets if m not in given]
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
) -> Scores:
    """Scores all tasks on `count` scenes, each on those that have what is given and what is made.

    Predictions are made with `runner.understanding` and averaged over `runner.draws`, as those from rgb are.

    Returns:
      metric -> {"round trip": value, "mean image": value, "rgb -> depth": value, ...}: first what the autoencoder loses
      alone, which is a ceiling, and what the mean image of the train split scores, which sees nothing.
    """
    rows: dict[str, Averages] = {}
    progress, first = Progress("any to any", count * len(tasks) * runner.draws, "samples"), 0
    for batch in scenes:
        for name, scores in _scores(runner, batch, tasks, facts, average, seed, first, progress).items():
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
) -> dict[str, Averages]:
    """Scores of one batch, whose first scene has number `first`."""
    names = runner.sampler.architecture.modalities
    present = {m: batch["present"][:, i] for i, m in enumerate(names)}
    arrays, known = {m: to_array(batch[m]) for m in names}, truth(batch, names, facts)
    wanted = [m for m in names if any(task.wanted == m for task in tasks)]
    decoded = runner.sampler.round_trip({m: arrays[m] for m in wanted}, runner.generation.batch)
    found = {"round trip": dense.averages(to_values(decoded, facts), known, facts, present)}
    if average:
        guess = {m: np.broadcast_to(average[m], arrays[m].shape) for m in wanted if m in average}
        found["mean image"] = dense.averages(to_values(guess, facts), known, facts, present)
    for task in tasks:
        given, stream = {m: arrays[m] for m in task.given}, f"any to any {task}"
        made = runner.predict(given, task.wanted, seed, stream, first=first, progress=progress)
        there = np.all([present[m] for m in task.given], axis=0)
        counted = {m: rows & there for m, rows in present.items()}
        found[str(task)] = dense.averages(to_values(made, facts), known, facts, counted)
    return found


def headlines(scores: Scores) -> Scores:
    """The columns that are printed: one for each modality."""
    chosen = ("rgb/psnr", "depth/absrel", "depth/l1", "normal/mean", "mask/miou")
    return {key: scores[key] for key in chosen if key in scores}
