"""Composes depth and regions of held-out scenes to images, as MCDM does: agreement, cost, and sheets to look at.

python -m mmgen_jax.studies.composition --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=64

Each way of using the conditions makes the rgb of the same scenes. What the model then predicts from that rgb is
compared with what was given. `calls` counts rows of the network for each sample, and `time` is a multiple of what
giving both conditions together takes. Writes composition.png; negation.png, in which a condition counts less or leads
away; classes.png, in which two classes are multiplied; and between.png, from one class to another.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/composition", "Folder of the sheets.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.metrics import dense
from mmgen_jax.sampling import SOLVERS
from mmgen_jax.sampling.classes import text as classes_text
from mmgen_jax.sampling.options import Options, Strengths, plan
from mmgen_jax.show import pictures
from mmgen_jax.studies.opening import Opened, into_folder, opened
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

GIVEN = ("depth", "mask")
METRICS = {"depth/absrel": "depth AbsRel", "mask/miou": "regions, mIoU"}
SCENES = 6  # number of rows of the sheets
PRODUCTS = {"first": (1, 0), "second": (0, 1), "first and second": (1, 1), "first, not second": (1, -0.5)}
SHEETS = ("composition.png", "negation.png", "classes.png", "between.png")
BETWEEN = {f"{1 - a:g} : {a:g}": (1 - a, a) for a in (0, 0.25, 0.5, 0.75, 1)}


@dataclass(frozen=True)
class Way:
    """A way of using the conditions: names of those that are given, and what else the request says."""

    given: tuple[str, ...]
    options: dict[str, object] = dataclasses.field(default_factory=dict)


WAYS = {
    "neither": Way(()),
    "depth alone": Way(("depth",)),
    "regions alone": Way(("mask",)),
    "composed": Way(GIVEN, {"compose": True}),
    "composed, 1 corrector step": Way(GIVEN, {"compose": True, "corrector": 1}),
    "composed, 3 corrector steps": Way(GIVEN, {"compose": True, "corrector": 3}),
    "composed, 8 particles": Way(GIVEN, {"compose": True, "particles": 8}),
    "given together": Way(GIVEN),
}
AWAY = {
    "away from regions": Way(GIVEN, {"compose": True, "strength": Strengths(mask=-0.5)}),
    "depth x 0.5": Way(GIVEN, {"compose": True, "strength": Strengths(depth=0.5)}),
    "away from depth": Way(GIVEN, {"compose": True, "strength": Strengths(depth=-0.5)}),
}


def calls(options: Options, given: Sequence[str], modalities: Sequence[str]) -> int:
    """Rows of the network that one sample without a class takes, over all steps, branches and particles."""
    choices, _ = plan(options, given, modalities, conditional=False)
    corrector = choices.corrector if choices.corrector is not None else int(choices.particles > 1)
    evaluations = SOLVERS[choices.solver].evaluations(choices.steps) + corrector * (choices.steps - 1)
    return evaluations * (1 + len(choices.members)) * choices.particles


def agreement(opened: Opened, rgb: np.ndarray) -> dict[str, float]:
    """How well what a model reads from rgb, one image for each scene, agrees with depth and regions of the scenes."""
    read = opened.read(rgb)
    return dense.summary({m: read[m] for m in GIVEN}, opened.scenes, opened.facts)


class Study:
    """A model, and how it makes rgb of the conditions of scenes.

    Attributes:
      opened: the model and the scenes.
      options: how samples are drawn.
    """

    def __init__(self, chosen: settings.Settings, workdir: str):
        """Raises UsageError for a model that lacks a modality."""
        self.opened: Opened = opened(chosen, workdir, (*GIVEN, "rgb"), ", ".join(GIVEN))
        self.options = dataclasses.replace(chosen.sample.options().plain(), wanted="rgb")

    def rgb(self, way: Way, count: int) -> tuple[np.ndarray, Options]:
        """The rgb uint8 [count, H, W, 3] that a way makes of the first scenes, and the options of its request."""
        options = dataclasses.replace(self.options, **way.options)  # type: ignore[arg-type]
        given = {m: self.opened.scenes[m][:count] for m in way.given}
        return self.opened.model.draw(options, n=count, given=given)["rgb"], options

    def rows(self) -> dict[str, dict[str, float]]:
        """Scores, calls and relative time of each way; compiles before it measures."""
        rows: dict[str, dict[str, float]] = {}
        count, modalities = len(self.opened.scenes["rgb"]), self.opened.architecture.modalities
        for name, way in WAYS.items():
            self.rgb(way, count)
            start = time.perf_counter()
            rgb, options = self.rgb(way, count)
            seconds = time.perf_counter() - start
            rows[name] = {"calls": calls(options, way.given, modalities), "seconds": seconds}
            rows[name] |= agreement(self.opened, rgb)
        joint = rows["given together"]["seconds"]
        return {name: row | {"time": row["seconds"] / joint} for name, row in rows.items()}

    def sheet(self, ways: Mapping[str, Way]) -> np.ndarray:
        """Picture uint8 [H, W, 3] of what is given, the rgb of the scenes, and what each way makes."""
        columns = self.opened.pictures((*GIVEN, "rgb"), SCENES)
        columns["rgb of the scene"] = columns.pop("rgb")
        made = {name: self.rgb(way, len(columns["rgb of the scene"]))[0] for name, way in ways.items()}
        return pictures.sheet(columns | made, given=GIVEN)


def classes(model: MMGen, options: Options, columns: Mapping[str, tuple[float, float]]) -> np.ndarray:
    """Picture uint8 [H, W, 3] of two classes with the weights of each column; a row for each pair of classes.

    Raises UsageError for a model with less than two classes.
    """
    names = model.class_names
    if len(names) < 2:
        raise UsageError(f"the model has {len(names)} classes; a product of two needs two")
    pairs = [(i % len(names), (i + 1) % len(names)) for i in range(SCENES)]

    def made(weights: tuple[float, float]) -> np.ndarray:
        requests = [classes_text(dict(zip(pair, weights, strict=True))) for pair in pairs]
        drawn = [model.draw(dataclasses.replace(options, classes=text), n=[i]) for i, text in enumerate(requests)]
        return np.concatenate([outputs["rgb"] for outputs in drawn])

    rows = [f"{names[i]}, {names[j]}" for i, j in pairs]
    return pictures.sheet({name: made(weights) for name, weights in columns.items()}, names=rows)


def line(name: str, row: Mapping[str, float]) -> str:
    """One row of the Markdown table."""
    numbers = " | ".join(f"{row[key]:.4f}" for key in METRICS)
    return f"| {name} | {row['calls']:.0f} | {row['time']:.1f} | {numbers} |"


def run(chosen: settings.Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[str, float]]:
    """Prints the table, writes the sheets, returns the rows. Raises UsageError for a model that lacks a modality."""
    study = Study(chosen, workdir)
    rows = study.rows()
    say(f"| rgb from | calls | time | {' | '.join(METRICS.values())} |\n|---|---|---|---|---|")
    for name, row in rows.items():
        say(line(name, row))
    target = epath.Path(out)
    target.mkdir(parents=True, exist_ok=True)
    together = dataclasses.replace(study.options, wanted="")  # all modalities, as classes were mostly learned
    sheets = [study.sheet(ways) for ways in (WAYS, AWAY)]
    sheets += [classes(study.opened.model, together, columns) for columns in (PRODUCTS, BETWEEN)]
    for name, sheet in zip(SHEETS, sheets, strict=True):
        pictures.save_png(target / name, sheet)
    return rows


if __name__ == "__main__":
    command.run(into_folder(run, SHEETS))
