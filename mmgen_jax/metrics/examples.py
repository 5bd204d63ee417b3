"""What a report shows of an evaluation: its first predictions beside the truth, and where errors are on average.

An evaluation hands over what it predicts anyway, batch by batch; nothing is predicted again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import known
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import gallery, pictures

COUNT = 6  # scenes and samples that are shown

Values = Mapping[str, np.ndarray]


@dataclass
class _Task:
    """Pictures of the first scenes of one task, by column, and errors of all scenes, added up by pixel."""

    given: tuple[str, ...]
    columns: dict[str, list[np.ndarray]] = field(default_factory=dict)
    errors: dict[str, np.ndarray] = field(default_factory=dict)
    counts: dict[str, np.ndarray] = field(default_factory=dict)
    scenes: int = 0

    def add(self, column: str, images: np.ndarray) -> None:
        """Adds pictures of one batch to a column."""
        self.columns.setdefault(column, []).append(images)


class Examples:
    """Collects pictures of predictions and of generated samples, and mean errors.

    Attributes:
      facts: what the data set says of itself, such as the palette of its masks.
    """

    def __init__(self, facts: Facts):
        self.facts = facts
        self._tasks: dict[str, _Task] = {}
        self._samples: dict[str, list[np.ndarray]] = {}

    def predicted(
        self, task: str, given: Sequence[str], made: Values, stored: Values, truth: Values, there: Values
    ) -> None:
        """Adds a batch of predictions.

        Args:
          task: its name in the report, as "rgb -> depth".
          given: names of the modalities that were given.
          made: values of what was predicted, [N, H, W(, 3)].
          stored: values of all modalities of the scenes.
          truth: the same, NaN where there is none.
          there: modality -> bool [N], the scenes whose truth counts.
        """
        entry = self._tasks.setdefault(task, _Task(tuple(given)))
        errors = {m: self._error(m, values, truth[m], there[m]) for m, values in made.items()}
        for m, error in errors.items():
            entry.errors[m] = entry.errors.get(m, 0) + np.nansum(error, axis=0)
            entry.counts[m] = entry.counts.get(m, 0) + np.isfinite(error).sum(0)
        rows = min(COUNT - entry.scenes, len(next(iter(made.values()))))
        if not rows:
            return
        entry.scenes += rows
        for m in given:
            entry.add(m, self._picture(m, stored[m][:rows], there[m][:rows, None, None]))
        for m, values in made.items():
            seen = known(truth[m]) & there[m][:, None, None]
            entry.add(f"{m} truth", self._picture(m, stored[m][:rows], seen[:rows]))
            entry.add(m, MODALITIES[m].picture(values[:rows], self.facts))
            entry.add(f"{m} error", pictures.heat(errors[m][:rows]))

    def generated(self, values: Values) -> None:
        """Adds values [N, H, W(, 3)] of generated samples."""
        for m, x in values.items():
            left = COUNT - sum(map(len, self._samples.get(m, [])))
            if left > 0:
                self._samples.setdefault(m, []).append(MODALITIES[m].picture(x[:left], self.facts))

    def pixels(self, task: str) -> dict[str, int]:
        """Number of pixels that a task was scored on, of each modality that it made."""
        entry = self._tasks.get(task)
        return {m: int(count.sum()) for m, count in entry.counts.items()} if entry else {}

    def sections(self, task: str) -> list[gallery.Section]:
        """Pictures of a task: the first scenes, and the mean error in each pixel over all of them."""
        entry = self._tasks.get(task)
        if entry is None:
            return []
        columns = {label: pictures.reduced(np.concatenate(parts)) for label, parts in entry.columns.items()}
        marks = ", ".join(f"{MODALITIES[m].wrong:g} for {m}" for m in entry.errors)
        first = gallery.Section(
            f"{task}: the first {entry.scenes} scenes",
            columns,
            f"Errors are black where there are none and white from {marks}, before any alignment; grey has no truth.",
            entry.given,
        )
        means = {
            f"{m} error": pictures.reduced(pictures.heat(_mean(entry.errors[m], entry.counts[m]))[None])
            for m in entry.errors
        }
        caption = "The error in each pixel, averaged over all scenes that have a truth there; colours as above."
        return [first, gallery.Section(f"{task}: where errors are", means, caption, rows=("all",))]

    def samples(self) -> list[gallery.Section]:
        """Pictures of the first generated samples; none if there are none."""
        if not self._samples:
            return []
        columns = {m: pictures.reduced(np.concatenate(parts)) for m, parts in self._samples.items()}
        return [gallery.Section(f"The first {len(next(iter(columns.values())))} samples", columns)]

    def _error(self, m: str, values: np.ndarray, truth: np.ndarray, there: np.ndarray) -> np.ndarray:
        """Errors float64 [N, H, W] as `Modality.error` tells them; NaN where there is no truth."""
        error = np.asarray(MODALITIES[m].error(values, truth, self.facts), np.float64)
        return np.where(known(truth) & there[:, None, None], error, np.nan)

    def _picture(self, m: str, stored: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Pictures of values, grey where they are not `seen`, bool [N, H, W] or [N, 1, 1]."""
        picture = MODALITIES[m].picture(stored, self.facts)
        return np.where(seen[..., None], picture, pictures.MUTED).astype(np.uint8)


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
