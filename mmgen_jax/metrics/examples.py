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
        rows = max(0, min(COUNT - entry.scenes, len(next(iter(made.values())))))
        entry.scenes += rows
        for m in given:
            self._add(entry, m, self._picture(m, stored[m], there[m], rows))
        for m, values in made.items():
            error = np.asarray(MODALITIES[m].error(values, truth[m], self.facts), np.float64)
            error[~(known(truth[m]) & np.asarray(there[m], bool)[:, None, None])] = np.nan
            hidden = known(truth[m])[:rows]
            true = np.where(hidden[..., None], self._picture(m, stored[m], there[m], rows), pictures.MUTED)
            self._add(entry, f"{m} truth", true.astype(np.uint8))
            self._add(entry, m, MODALITIES[m].picture(values[:rows], self.facts))
            self._add(entry, f"{m} error", pictures.heat(error[:rows]))
            entry.errors[m] = entry.errors.get(m, 0) + np.nansum(error, axis=0)
            entry.counts[m] = entry.counts.get(m, 0) + np.isfinite(error).sum(0)

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

    def _picture(self, m: str, stored: np.ndarray, there: np.ndarray, rows: int) -> np.ndarray:
        """Pictures of the first rows, grey where a scene lacks the modality."""
        picture = MODALITIES[m].picture(stored[:rows], self.facts)
        kept = np.asarray(there[:rows], bool)[:, None, None, None]
        return np.where(kept, picture, pictures.MUTED).astype(np.uint8)

    @staticmethod
    def _add(entry: _Task, column: str, images: np.ndarray) -> None:
        entry.columns.setdefault(column, []).append(images)


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
