"""What guidance on the class buys and costs: with and without rescaling, and away from a weak model; and a sheet.

python -m mmgen_jax.studies.guidance --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=128

Makes samples of the classes of held-out scenes in every way, from the same noise, and compares them with the scenes.
With `--config.sample.weak=...` that model is the weak one of autoguidance, and what it makes alone is shown too.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/guidance.png", "File of the sheet.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath

from mmgen_jax.api import MMGen
from mmgen_jax.metrics import classifier, consistency, dense, diversity
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.studies.opening import Values, into_file, opened, table
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

NEEDED = ("rgb", "depth", "normal")
REAL, WEAK = "real scenes", "the weak model alone"
WAYS: dict[str, dict[str, float]] = {
    "guidance 1": {"guidance": 1.0},
    **{
        f"guidance {w:g}{', rescaled' if phi else ''}": {"guidance": w, "rescale": phi}
        for w in (2.0, 4.0, 8.0)
        for phi in (0.0, 0.7)
    },
}
AWAY = {f"autoguidance {w:g}": {"autoguidance": w} for w in (1.5, 2.0, 3.0)}
HEADS = (
    "wanted class",
    "its probability",
    "normals to depth",
    "depth read",
    "contrast",
    "saturated",
    "sharpness",
    "variety",
)
SCENES = 6  # rows of the sheet


class Study:
    """A model, held-out scenes, and what is made of their classes."""

    def __init__(self, chosen: Settings, workdir: str):
        """Raises UsageError for a model that lacks a modality, or has other classes than the bundled classifier knows.

        Raises it for too few scenes too: of one class there must be two, whose variety is compared.
        """
        self.opened = opened(chosen, workdir, NEEDED)
        judge = classifier.for_classes(self.opened.architecture.facts.class_names)
        if judge is None:
            raise UsageError(f"the model {workdir!r} has other classes than the bundled classifier, which judges here")
        self._judge, self._options = judge, chosen.sample.options().plain()
        self._classes = self.opened.class_id
        if len(np.unique(self._classes)) == len(self._classes):
            raise UsageError(f"the {len(self._classes)} scenes are all of other classes; more of them are needed")

    def made(self, model: MMGen, way: Mapping[str, Any]) -> Values:
        """Values [n, H, W(, 3)] of samples of the scenes' classes."""
        options = dataclasses.replace(self._options, **{"guidance": 1.0, "rescale": 0.0} | dict(way))
        return dict(model.draw(options, self._classes, len(self._classes)))

    def row(self, values: Values) -> dict[str, float]:
        """Scores of samples, or of the scenes."""
        facts, real = self.opened.facts, self.opened.scenes["rgb"]
        seen, rgb = self._judge.predict(values["rgb"]), values["rgb"]
        own = [np.flatnonzero(self._classes == c) for c in np.unique(self._classes)]
        numbers = (
            classifier.accuracy(seen, self._classes),
            float(seen[np.arange(len(seen)), self._classes].mean()),
            consistency.summary(values, None, facts).get("depth-normal/angle", float("nan")),
            dense.headline("depth", self.opened.read(rgb)["depth"], values["depth"], facts),
            contrast(rgb) / contrast(real),
            float(((rgb == 0) | (rgb == 255)).mean()),
            sharpness(rgb) / sharpness(real),
            diversity.of_features(self._judge.features(rgb), own),
        )
        return dict(zip(HEADS, numbers, strict=True))

    def all(self, weak: MMGen | None) -> dict[str, Values]:
        """What each way makes, and the scenes."""
        found = {name: self.made(self.opened.model, way) for name, way in WAYS.items()}
        if weak is not None:
            joined = self.opened.model.joined(weak=weak)
            found |= {name: self.made(joined, way) for name, way in AWAY.items()} | {WEAK: self.made(weak, {})}
        return found | {REAL: self.opened.scenes}

    def sheet(self, made: Mapping[str, Values]) -> np.ndarray:
        """Picture uint8 [H, W, 3] of the rgb of each way, a row for each of the first classes."""
        names = self.opened.architecture.facts.class_names
        rows = [int(np.flatnonzero(self._classes == c)[0]) for c in np.unique(self._classes)[:SCENES]]
        columns = {name: values["rgb"][rows] for name, values in made.items()}
        return pictures.sheet(columns, names=[names[self._classes[row]] for row in rows], scale=3)


def contrast(rgb: np.ndarray) -> float:
    """Mean standard deviation of the pixels and channels of each image uint8 [n, H, W, 3]."""
    return float(rgb.astype(np.float64).std((1, 2, 3)).mean())


def sharpness(rgb: np.ndarray) -> float:
    """Mean square of the differences of neighbours, over the variance of each image uint8 [n, H, W, 3]."""
    x = rgb.astype(np.float64)
    steps = np.square(np.diff(x, axis=1)).mean((1, 2, 3)) + np.square(np.diff(x, axis=2)).mean((1, 2, 3))
    return float((steps / np.maximum(x.var((1, 2, 3)), 1e-9)).mean())


def run(chosen: Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[str, float]]:
    """Prints the table, writes the sheet, returns the rows. Raises UsageError as `Study` does, and for a weak model."""
    study = Study(chosen, workdir)
    made = study.all(MMGen.load(chosen.sample.weak) if chosen.sample.weak else None)
    rows = {name: study.row(values) for name, values in made.items()}
    say(table("samples", HEADS, rows))
    pictures.save_png(out, study.sheet(made))
    return rows


if __name__ == "__main__":
    command.run(into_file(run))
