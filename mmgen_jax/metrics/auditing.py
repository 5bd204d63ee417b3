"""Finds labels that disagree with what a model predicts of them from all other modalities of the scene.

The disagreement of a pixel is the mean error between the label and draws of the model, minus the mean error between one
draw and another (an energy distance): where the model itself is not sure, a label may differ. Sums over squares of
three sizes, of which the worst counts, see a small patch as well as a whole image that is off by little. Each is
compared with its median and median deviation over the set, so that every modality has its own typical error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

from mmgen_jax.data import pipeline
from mmgen_jax.metrics.report import truth
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import known
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.settings import Settings

PARTS = (8, 2, 1)  # the sides of squares are these parts of the image's
DEVIATION = 1.4826  # a median absolute deviation times this is the standard deviation of a normal distribution


def drawing(chosen: Settings, draws: int) -> Settings:
    """The settings by which a `Runner` draws each label so often.

    Several draws start from noise: where `evaluate.temperature` is 0, which makes all the same, it is 1.
    """
    temperature = chosen.evaluate.temperature or (1.0 if draws > 1 else 0.0)
    return chosen.changed(evaluate={"draws": draws, "temperature": temperature})


@dataclass(frozen=True)
class Found:
    """What a label looks like beside predictions of it.

    Attributes:
      label: values [N, ...], NaN where there are none.
      drawn: values [N, K, ...] that the model draws.
      maps: float [N, H, W], disagreement of each pixel; NaN in scenes without this label or without any other modality.
    """

    label: np.ndarray
    drawn: np.ndarray
    maps: np.ndarray


def predict(
    runner: Runner,
    batch: pipeline.Batch,
    numbers: np.ndarray,
    modality: str,
    facts: Facts,
    progress: Callable[[int], object] | None = None,
) -> Found:
    """Predicts one modality of scenes from all others that each scene has, `runner.draws` times.

    Args:
      runner: the model and how it is sampled.
      batch: the scenes.
      numbers: int [N], numbers of the scenes, on which the noise depends.
      modality: the label that is audited.
      facts: of the data set.
      progress: is told of every draw.
    """
    names, draws = runner.sampler.architecture.modalities, runner.draws
    arrays, label = {m: to_array(batch[m]) for m in names}, truth(batch, [modality], facts)[modality]
    drawn = np.repeat(label[:, None], draws, axis=1)
    maps = np.full(label.shape[:3], np.nan)
    for pattern in np.unique(batch["present"], axis=0):
        rows = np.flatnonzero((batch["present"] == pattern).all(1))
        given = {m: arrays[m][rows] for m, there in zip(names, pattern, strict=True) if there and m != modality}
        if not pattern[names.index(modality)] or not given:
            continue
        made = runner.drawn(given, modality, 0, f"audit of {modality}", numbers[rows], progress)
        values = to_values(made, facts)[modality]
        drawn[rows] = values.reshape(len(rows), draws, *values.shape[1:])
        maps[rows] = disagreement(modality, drawn[rows], label[rows], facts)
    return Found(label, drawn, maps)


def disagreement(modality: str, drawn: np.ndarray, label: np.ndarray, facts: Facts) -> np.ndarray:
    """Disagreement [N, H, W] of labels [N, ...] with draws [N, K, ...], in units of `Modality.error`.

    It is 0 where the label has no value.
    """
    row, draws = MODALITIES[modality], drawn.shape[1]
    to_label = np.mean([row.error(drawn[:, k], label, facts) for k in range(draws)], axis=0)
    pairs = [(j, k) for j in range(draws) for k in range(j)]
    among = [row.error(drawn[:, j], drawn[:, k], facts) for j, k in pairs]
    return np.where(known(label), to_label - (np.mean(among, axis=0) if among else 0), 0)


def squares(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest mean of maps [N, H, W] in squares of each size, [N, 3], and where its corner is, int [N, 3, 2]."""
    most, corner = [], []
    for part in PARTS:
        sides = [max(1, length // part) for length in maps.shape[1:]]
        means = maps
        for axis, side in enumerate(sides, 1):
            moved = ndimage.uniform_filter1d(means, side, axis=axis, mode="constant")
            means = moved.take(range(side // 2, side // 2 + means.shape[axis] - side + 1), axis)
        flat = means.reshape(len(maps), -1)
        best = np.where(np.isnan(flat), -np.inf, flat).argmax(1)
        most.append(flat[np.arange(len(maps)), best])
        corner.append(np.stack(np.unravel_index(best, means.shape[1:]), 1))
    return np.stack(most, 1), np.stack(corner, 1)


@dataclass(frozen=True)
class Typical:
    """What is usual in a set, of which most labels are right: median and deviation for each size of squares, [3]."""

    middle: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, most: np.ndarray) -> Typical:
        """Of `squares` [N, 3] of a set; scenes with NaN do not count."""
        middle = np.nanmedian(most, 0)
        return cls(middle, DEVIATION * np.nanmedian(np.abs(most - middle), 0) + 1e-6)

    def deviations(self, most: np.ndarray) -> np.ndarray:
        """By how many typical deviations `squares` [N, 3] are above the median, [N, 3]."""
        return (most - self.middle) / self.spread

    def score(self, most: np.ndarray) -> np.ndarray:
        """The score [N] of labels: the largest of their deviations."""
        return self.deviations(most).max(1)


def auroc(right: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a wrong label has a higher score than a right one; ties count half."""
    return float(stats.mannwhitneyu(wrong, right).statistic / (len(right) * len(wrong)))


def labels(modalities: Sequence[str]) -> tuple[str, ...]:
    """The modalities that are labels: all except the picture."""
    return tuple(m for m in modalities if m != "rgb")
