"""How different samples are that keep the geometry of a scene, and how well they keep it: a table, and a sheet.

python -m mmgen_jax.studies.variations --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=64

Makes `sample.draws` variations (8 if that is 1) of each of `evaluate.n` held-out scenes, all of the scene's class: with
nothing else given, with its depth, and with its whole geometry. Distances are means over all pairs of variations of a
scene (`metrics.diversity`), beside those of real scenes of one class. Depth is read from the rgb of each variation and
compared with the scene's.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/shapes-tiny/variations.png", "File of the sheet.")
    command.parse()  # before the imports below, which take seconds

from collections.abc import Mapping

import numpy as np
from etils import epath

from mmgen_jax.metrics import classifier, dense, diversity
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.studies import opening
from mmgen_jax.studies.opening import Values
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

GEOMETRY = ("depth", "normal", "mask")
WAYS: Mapping[str, tuple[str, ...]] = {"nothing": (), "depth": ("depth",), "depth, normals, regions": GEOMETRY}
REAL = "real scenes of the class"
HEADS = ("features", "rgb", "depth", "normals, degrees", "regions", "depth read, AbsRel")
VARIATIONS = 8  # of a scene, unless the settings say how many
SCENES, SHOWN = 6, 2  # rows of the sheet, and variations of each way in it


class Study:
    """A model, held-out scenes, and how variations of them are made and compared.

    Attributes:
      count: number of variations of each.
    """

    def __init__(self, chosen: Settings, workdir: str):
        """Raises UsageError for scenes or models that lack a modality, and for fewer than two scenes."""
        self._opened = opening.opened(chosen, workdir, ("rgb", *GEOMETRY))
        if chosen.evaluate.n < 2:
            raise UsageError(f"config key evaluate.n is {chosen.evaluate.n}; variations are compared with at least 2")
        self._class_id = self._opened.class_id
        self._judge = classifier.for_classes(self._opened.architecture.facts.class_names)
        self.count = chosen.sample.draws if chosen.sample.draws > 1 else VARIATIONS
        self._options = chosen.sample.options().plain()

    def made(self, given: tuple[str, ...]) -> Values:
        """Values [n count, ...] of all variations, those of a scene next to each other."""
        each = {m: np.repeat(self._opened.scenes[m], self.count, axis=0) for m in given}
        classes = np.repeat(self._class_id, self.count)
        return dict(self._opened.model.draw(self._options, classes, len(classes), each))

    def row(self, values: Values, groups: diversity.Groups, depth: np.ndarray) -> dict[str, float]:
        """Distances within groups, and how far the depth that is read from rgb is from `depth`."""
        apart = diversity.of_values(values, groups, self._opened.facts)
        if self._judge is not None:
            apart["features"] = diversity.of_features(self._judge.features(values["rgb"]), groups)
        kept = dense.headline("depth", self._opened.read(values["rgb"])["depth"], depth, self._opened.facts)
        found = (apart.get(key, float("nan")) for key in ("features", "rgb", "depth", "normal", "mask"))
        return dict(zip(HEADS, (*found, kept), strict=True))

    def rows(self) -> tuple[dict[str, dict[str, float]], dict[str, Values]]:
        """Scores of each way and of real scenes, and what each way made."""
        made = {name: self.made(given) for name, given in WAYS.items()}
        own = np.arange(len(self._class_id) * self.count).reshape(-1, self.count)
        scenes = self._opened.scenes
        depth = np.repeat(scenes["depth"], self.count, axis=0)
        rows = {name: self.row(values, list(own), depth) for name, values in made.items()}
        classes = [np.flatnonzero(self._class_id == c) for c in np.unique(self._class_id)]
        if max(map(len, classes)) < 2:
            raise UsageError(f"the {len(self._class_id)} scenes are all of other classes; more of them are needed")
        return rows | {REAL: self.row(scenes, classes, scenes["depth"])}, made

    def sheet(self, made: Mapping[str, Values]) -> np.ndarray:
        """Picture uint8 [H, W, 3] of scenes, their depth, and the rgb of a few variations of each way."""
        shown = self._opened.pictures(("rgb", "depth"), SCENES)
        columns = {"scene": shown["rgb"], "its depth": shown["depth"]}
        for name, values in made.items():
            several = values["rgb"].reshape(-1, self.count, *values["rgb"].shape[1:])[:SCENES]
            for k in range(min(SHOWN, self.count)):
                columns[f"{name.replace('depth, normals, regions', 'all three')} {k + 1}"] = several[:, k]
        return pictures.sheet(columns, given=("its depth",))


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows as Markdown."""
    return opening.table("kept of a scene", HEADS, rows)


def run(chosen: Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[str, float]]:
    """Prints the table, writes the sheet, returns the rows. Raises UsageError as `Study` does."""
    study = Study(chosen, workdir)
    rows, made = study.rows()
    say(table(rows))
    pictures.save_png(out, study.sheet(made))
    return rows


if __name__ == "__main__":
    command.run(opening.into_file(run))
