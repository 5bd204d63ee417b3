"""The scores of a model on held-out scenes and on samples of classes, as sections of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from mmgen_jax.data import pipeline
from mmgen_jax.metrics import classifier, consistency, dense
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling.sampler import Arrays
from mmgen_jax.system.errors import UsageError

Scores = dict[str, dict[str, float]]  # column -> metric -> value


def mean_image(batch: pipeline.Batch, architecture: Architecture) -> Arrays:
    """Mean array [1, H, W, C] of each modality over the tiles that have it: the best guess that ignores the input."""
    present = _present(batch, architecture)
    return {m: to_array(batch[m][present[m]]).mean(0, keepdims=True) for m in present if present[m].any()}


def understanding(
    runner: Runner,
    batch: pipeline.Batch,
    predicted: Arrays,
    facts: Facts,
    average: Arrays | None = None,
) -> Scores:
    """Scores of predictions from rgb, and for comparison those of the autoencoder alone (a ceiling) and the mean image.

    Args:
      runner: the model and how it is sampled.
      batch: pixels of each modality [N, H, W, C] and present [N, M].
      predicted: arrays in [-1, 1] of all modalities except rgb, as `Runner.rest_from_rgb` returns them.
      facts: what the model's data set says of itself, with its camera if that is known.
      average: what `mean_image` returns, or None to leave that column out.
    """
    architecture = runner.sampler.architecture
    arrays = {m: to_array(batch[m]) for m in architecture.modalities}
    truth = to_values(holes.hidden(arrays, batch), facts)
    decoded = runner.sampler.round_trip(arrays, runner.generation.batch)
    columns: dict[str, Arrays] = {"model": predicted, "round_trip": decoded}
    if average:
        columns["mean_image"] = {m: np.broadcast_to(average[m], arrays[m].shape) for m in predicted if m in average}
    present = _present(batch, architecture)
    return {name: dense.summary(to_values(x, facts), truth, facts, present) for name, x in columns.items()}


def generation(architecture: Architecture, rgb: Mapping[str, np.ndarray], class_id: Mapping[str, np.ndarray]) -> Scores:
    """Accuracy of the bundled classifier on "generated" and "real" rgb uint8 [N, H, W, 3], in all and for each class.

    Returns an empty dict if the model's classes are not those of the classifier.
    """
    judge = classifier.for_classes(architecture.class_names)
    if judge is None:
        return {}
    scores: Scores = {}
    for name in rgb:
        probabilities = judge.predict(rgb[name])
        parts = classifier.per_class(probabilities, class_id[name], architecture.class_names)
        scores[name] = {"accuracy": classifier.accuracy(probabilities, class_id[name])}
        scores[name] |= {f"accuracy/{key}": value for key, value in parts.items()}
    return scores


def agreement(samples: Mapping[str, tuple[Arrays, Arrays]], facts: Facts) -> Scores:
    """Computes `consistency.summary` of each entry of `samples`, and of the same entry with shuffled modalities.

    An entry has the arrays of all modalities and the arrays that the model predicts from their rgb.
    """
    scores: Scores = {}
    for name, (arrays, predicted) in samples.items():
        pair = to_values(arrays, facts), to_values(predicted, facts)
        scores[name] = consistency.summary(*pair, facts)
        if len(next(iter(arrays.values()))) > len(arrays):
            scores[f"{name}_shuffled"] = consistency.summary(*consistency.shuffled(*pair), facts)
    return scores


def evaluate(
    runner: Runner,
    batch: pipeline.Batch,
    *,
    samples: int,
    metadata: Mapping,
    average: Arrays | None = None,
    seed: int = 0,
) -> dict[str, Scores]:
    """Evaluates a model on one batch of held-out scenes; returns {section: {column: {metric: value}}}.

    Args:
      runner: the model and how it is sampled.
      batch: pixels [N, H, W, C] of each modality, class_id [N] and present [N, M], as `pipeline.load` returns them.
      samples: number of generated scenes, balanced over the classes; 0 leaves generation out.
      metadata: what the data set says of itself (depth_range, fov_degrees); may be empty.
      average: what `mean_image` returns, or None.
      seed: seed of all noise.

    Raises:
      UsageError: the model has no rgb, or only rgb, or no scene has rgb.
    """
    a = runner.sampler.architecture
    if "rgb" not in a.modalities or len(a.modalities) < 2:
        raise UsageError(f"the model's modalities are {', '.join(a.modalities)}; evaluation needs rgb and another one")
    batch = _rows(batch, _present(batch, a)["rgb"])
    if not len(batch["rgb"]):
        raise UsageError("no held-out scene has rgb; evaluation needs at least one")
    facts = a.facts.with_camera_of(Facts.from_metadata(metadata))
    predicted = runner.rest_from_rgb(batch["rgb"], seed)
    report = {"understanding": understanding(runner, batch, predicted, facts, average)}

    # A modality that no scene has, as in a data set from before it was known, is left out rather than all scenes.
    present = {m: rows for m, rows in _present(batch, a).items() if rows.any()}
    whole = np.all(list(present.values()), axis=0)
    real, read = ({m: x[m][whole] for m in present if m in x} for x in (batch, predicted))
    known = holes.hidden({m: to_array(x) for m, x in real.items()}, _rows(batch, whole))
    pairs = {"real": (known, read)} if whole.any() else {}
    rgb, classes = {"real": batch["rgb"]}, {"real": batch["class_id"]}
    if samples:
        # A model without classes has one class, the null class, whose number is 0.
        classes["generated"] = np.arange(samples) % max(len(a.class_names), 1)
        arrays = runner.from_class(classes["generated"], seed)
        rgb["generated"] = to_values({"rgb": arrays["rgb"]}, a.facts)["rgb"]
        reading = runner.rest_from_rgb(rgb["generated"], seed, "understanding of generated scenes")
        pairs = {"generated": (arrays, reading)} | pairs
    return report | {"generation": generation(a, rgb, classes), "consistency": agreement(pairs, facts)}


def _present(batch: pipeline.Batch, architecture: Architecture) -> dict[str, np.ndarray]:
    return {m: batch["present"][:, i] for i, m in enumerate(architecture.modalities)}


def _rows(batch: pipeline.Batch, rows: np.ndarray) -> pipeline.Batch:
    return {key: value[rows] for key, value in batch.items()}


def table(scores: Scores) -> str:
    """Text table with a row for each metric and a column for each entry of `scores`; a dash means no number."""
    metrics = list(dict.fromkeys(metric for column in scores.values() for metric in column))
    width = max(map(len, metrics), default=0)
    widths = {name: max(len(name), 9) for name in scores}
    lines = [" " * width + "".join(f"  {name:>{w}}" for name, w in widths.items())]
    for metric in metrics:
        cells = {name: scores[name].get(metric, math.nan) for name in widths}
        row = "".join(f"  {'-' if math.isnan(c) else f'{c:.4f}':>{widths[name]}}" for name, c in cells.items())
        lines.append(f"{metric:<{width}}{row}")
    return "\n".join(lines)
