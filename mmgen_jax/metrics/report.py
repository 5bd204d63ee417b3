"""The scores of a model on held-out scenes and on samples of classes, as sections of a report.

Scenes and samples are looked at in batches, and their scores are added up, so that any number of them can be evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from mmgen_jax.data import pipeline
from mmgen_jax.metrics import classifier, dense
from mmgen_jax.metrics.agreement import Agreement
from mmgen_jax.metrics.examples import Examples
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.metrics.shuffled import Shuffled
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import Averages, added, known
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling.sampler import Arrays
from mmgen_jax.system.console import Progress
from mmgen_jax.system.errors import UsageError

FROM_RGB = "rgb -> all others"  # the name of these predictions among examples
SHUFFLED = "shuffled"  # the name of scores of predictions that are of other scenes
Scores = dict[str, dict[str, float]]  # column -> metric -> value
Scenes = Iterable[pipeline.Batch]  # batches as `pipeline.Reader.load` returns them; can be gone through more than once


def mean_image(scenes: Scenes, architecture: Architecture) -> Arrays:
    """Mean array [1, H, W, C] of each modality over the tiles that have it: the best guess that ignores the input."""
    totals: dict[str, np.ndarray] = {}
    counts = dict.fromkeys(architecture.modalities, 0)
    for batch in scenes:
        for m, rows in present(batch, architecture).items():
            totals[m] = totals.get(m, 0.0) + to_array(batch[m][rows]).sum(0, keepdims=True, dtype=np.float64)
            counts[m] += int(rows.sum())
    return {m: (total / counts[m]).astype(np.float32) for m, total in totals.items() if counts[m]}


def scored(scenes: Scenes, architecture: Architecture) -> dict[str, int]:
    """Number of scenes in which each modality has a pixel to compare with. Only scenes with rgb count.

    Raises UsageError if the model has no rgb, or only rgb, or no scene has rgb.
    """
    counts = dict.fromkeys(architecture.modalities, 0)
    if "rgb" not in counts or len(counts) < 2:
        raise UsageError(f"the model's modalities are {', '.join(counts)}; evaluation needs rgb and another one")
    for batch in with_rgb(scenes, architecture):
        values = truth(batch, architecture.modalities, architecture.facts)
        for m, rows in present(batch, architecture).items():
            counts[m] += int((rows & known(values[m]).any((1, 2))).sum())
    if not counts["rgb"]:
        raise UsageError("no held-out scene has rgb; evaluation needs at least one")
    return counts


def truth(batch: pipeline.Batch, modalities: Iterable[str], facts: Facts) -> Arrays:
    """Values of the scenes of a batch, NaN where there is none."""
    return to_values(holes.hidden({m: to_array(batch[m]) for m in modalities}, batch), facts)


def bounds(
    runner: Runner, batch: pipeline.Batch, names: Sequence[str], guessed: Sequence[str], average: Arrays | None
) -> dict[str, Arrays]:
    """What predictions are compared with: of `names` what the autoencoder makes of the truth, which is a ceiling, and
    of `guessed` the mean image, which sees nothing, if there is one."""
    arrays = {m: to_array(batch[m]) for m in names}
    columns: dict[str, Arrays] = {"round_trip": runner.sampler.round_trip(arrays, runner.generation.batch)}
    if average:
        columns["mean_image"] = {m: np.broadcast_to(average[m], arrays[m].shape) for m in guessed if m in average}
    return columns


class Tally:
    """Scores of columns, to which those of more batches are added."""

    def __init__(self) -> None:
        self._columns: dict[str, Averages] = {}

    def add(self, name: str, scores: Averages) -> None:
        """Adds the scores of one batch to those of a column."""
        self._columns[name] = added(self._columns.get(name, {}), scores)

    def scores(self) -> Scores:
        """Column -> metric -> value."""
        return {name: _values(scores) for name, scores in self._columns.items()}


class _Judged:
    """What a classifier sees in rgb, batch by batch; nothing if there is none."""

    def __init__(self, judge: classifier.Classifier | None):
        self._judge = judge
        self._probabilities: list[np.ndarray] = []
        self._class_id: list[np.ndarray] = []

    def add(self, rgb: np.ndarray, class_id: np.ndarray) -> None:
        """Adds rgb uint8 [N, H, W, 3] of class_id [N]."""
        if self._judge:
            self._probabilities.append(self._judge.predict(rgb))
            self._class_id.append(class_id)

    def scores(self) -> dict[str, float]:
        """Accuracy in all and for each class; empty if nothing was seen."""
        if not self._judge or not self._class_id:
            return {}
        probabilities, class_id = np.concatenate(self._probabilities), np.concatenate(self._class_id)
        parts = classifier.per_class(probabilities, class_id, self._judge.class_names)
        named = {f"accuracy/{key}": value for key, value in parts.items()}
        return {"accuracy": classifier.accuracy(probabilities, class_id)} | named


def evaluate(
    runner: Runner,
    scenes: Scenes,
    counts: Mapping[str, int],
    *,
    samples: int,
    facts: Facts,
    average: Arrays | None = None,
    seeds: Sequence[int] = (0,),
    examples: Examples | None = None,
) -> Iterator[tuple[str, list[Scores]]]:
    """Evaluates a model on held-out scenes; yields each section as soon as it is known, with its scores by each seed.

    What does not depend on the seed is computed once.

    Args:
      runner: the model and how it is sampled.
      scenes: batches with pixels [N, H, W, C] of each modality, class_id [N] and present [N, M].
      counts: what `scored` says of them.
      samples: number of generated scenes, balanced over the classes; 0 leaves generation out.
      facts: what the model's data set says of itself, with the camera of the scenes if that is known.
      average: what `mean_image` returns, or None.
      seeds: of all noise.
      examples: to which predictions and samples by the first seed are added, to be shown.

    Yields:
      "understanding", "generation" and "consistency", each with {column: {metric: value}} for every seed.

    Raises:
      NotFinite: a prediction or a sample has NaN or infinity.
    """
    judge = classifier.for_classes(runner.sampler.architecture.facts.class_names)
    real, generated = _Judged(judge), [_Judged(judge) for _ in seeds]
    of_scenes, of_samples = ([Agreement(facts) for _ in seeds] for _ in range(2))
    yield "understanding", _on_scenes(runner, scenes, counts, average, seeds, of_scenes, real, examples)
    progress = Progress("generated", len(seeds) * samples * (1 + runner.draws), "samples")
    for i, seed in enumerate(seeds):
        _on_samples(runner, samples, seed, of_samples[i], generated[i], progress, None if i else examples)
    yield "generation", [_filled({"generated": x.scores(), "real": real.scores()}) for x in generated]
    yield "consistency", [_agreed({"generated": a, "real": b}) for a, b in zip(of_samples, of_scenes, strict=True)]


def _agreed(agreements: Mapping[str, Agreement]) -> Scores:
    """The scores of scenes by where they are from, and those of shuffled modalities."""
    every = ((name, end, scores) for name, x in agreements.items() for end, scores in x.scores().items())
    return _filled({f"{name}{end}": _values(scores) for name, end, scores in every})


def _on_scenes(
    runner: Runner,
    scenes: Scenes,
    counts: Mapping[str, int],
    average: Arrays | None,
    seeds: Sequence[int],
    agreements: Sequence[Agreement],
    seen: _Judged,
    examples: Examples | None,
) -> list[Scores]:
    """Scores of predictions from the rgb of held-out scenes by each seed, also `Shuffled`, beside those of `bounds`.

    Predictions are added to the seed's own of `agreements`, and those of the first seed to `examples`; the scenes are
    added to `seen`.
    """
    a, facts, first = runner.sampler.architecture, agreements[0].facts, 0
    guessed = [m for m in a.modalities if m != "rgb"]
    models, fixed, moved = [Tally() for _ in seeds], Tally(), [Shuffled() for _ in seeds]
    progress = Progress("from rgb", len(seeds) * counts["rgb"] * runner.draws, "samples")
    # A modality that no scene has, as in a data set from before it was known, is left out rather than all scenes.
    names = [m for m in a.modalities if counts[m]]
    for batch in with_rgb(scenes, a):
        values, there = truth(batch, a.modalities, facts), present(batch, a)
        whole = np.all([there[m] for m in names], axis=0)
        complete = {m: values[m][whole] for m in names}
        for name, arrays in bounds(runner, batch, a.modalities, guessed, average).items():
            fixed.add(name, dense.averages(to_values(arrays, facts), values, facts, there))
        for i, seed in enumerate(seeds):
            predicted = runner.rest_from_rgb(batch["rgb"], seed, first=first, progress=progress)
            made = to_values(predicted, facts)
            models[i].add("model", dense.averages(made, values, facts, there))
            others, rows = moved[i](made)
            models[i].add(SHUFFLED, dense.averages(others, values, facts, {m: x & rows for m, x in there.items()}))
            if whole.any():
                agreements[i].add(complete, {m: made[m][whole] for m in names if m in made})
            if examples and i == 0:
                show(examples, FROM_RGB, ("rgb",), predicted, batch, a)
        seen.add(batch["rgb"], batch["class_id"])
        first += len(batch["rgb"])
    return [_filled(model.scores() | fixed.scores()) for model in models]


def show(
    examples: Examples, task: str, given: Sequence[str], made: Arrays, batch: pipeline.Batch, architecture: Architecture
) -> None:
    """Adds arrays that were made from what is `given` of a batch to what is shown; scenes that lack it do not count."""
    names, facts, there = architecture.modalities, examples.facts, present(batch, architecture)
    whole = np.all([there[m] for m in given], axis=0)
    stored = to_values({m: to_array(batch[m]) for m in names}, facts)
    scored = {m: rows if m in given else rows & whole for m, rows in there.items()}
    examples.predicted(task, given, to_values(made, facts), stored, truth(batch, names, facts), scored)


def _on_samples(
    runner: Runner,
    samples: int,
    seed: int,
    agreement: Agreement,
    seen: _Judged,
    progress: Progress,
    examples: Examples | None,
) -> None:
    """Generates scenes and adds them to `agreement`, `seen` and `examples`."""
    a, facts, size = runner.sampler.architecture, agreement.facts, runner.generation.batch
    for first in range(0, samples, size):
        # A model without classes has one class, the null class, whose number is 0.
        classes = np.arange(first, min(first + size, samples)) % max(len(a.facts.class_names), 1)
        values = to_values(runner.from_class(classes, seed, first=first, progress=progress), facts)
        stream = "understanding of generated scenes"
        read = runner.rest_from_rgb(values["rgb"], seed, stream, first=first, progress=progress)
        agreement.add(values, to_values(read, facts))
        seen.add(values["rgb"], classes)
        if examples:
            examples.generated(values)


def with_rgb(scenes: Scenes, architecture: Architecture) -> Iterator[pipeline.Batch]:
    """The scenes that have rgb, in batches of at least one."""
    for batch in scenes:
        rows = present(batch, architecture)["rgb"]
        if rows.any():
            yield _rows(batch, rows)


def _values(scores: Averages) -> dict[str, float]:
    return {key: average.value for key, average in scores.items()}


def _filled(columns: Scores) -> Scores:
    """The columns that have a score."""
    return {name: scores for name, scores in columns.items() if scores}


def present(batch: pipeline.Batch, architecture: Architecture) -> dict[str, np.ndarray]:
    """Modality -> bool [N], the scenes of a batch that have it."""
    return {m: batch["present"][:, i] for i, m in enumerate(architecture.modalities)}


def _rows(batch: pipeline.Batch, rows: np.ndarray) -> pipeline.Batch:
    return {key: value[rows] for key, value in batch.items()}


def table(scores: Scores, spread: Scores | None = None) -> str:
    """Text table with a row for each metric and a column for each entry of `scores`; a dash means no number.

    With the standard deviations of the same scores over seeds, a cell is "mean +- deviation".
    """
    metrics = list(dict.fromkeys(metric for column in scores.values() for metric in column))
    width = max(map(len, metrics), default=0)

    def cell(name: str, metric: str) -> str:
        value = _cell(scores[name].get(metric, math.nan))
        return f"{value} +- {_cell(spread[name].get(metric, math.nan))}" if spread and value != "-" else value

    columns = {name: [cell(name, metric) for metric in metrics] for name in scores}
    widths = {name: max(9, len(name), *map(len, cells)) for name, cells in columns.items()}
    lines = [" " * width + "".join(f"  {name:>{w}}" for name, w in widths.items())]
    for i, metric in enumerate(metrics):
        lines.append(f"{metric:<{width}}" + "".join(f"  {columns[name][i]:>{w}}" for name, w in widths.items()))
    return "\n".join(lines)


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
