"""Measures how far the spread of several draws tells where a model errs, and by how much: a table, a plot, factors.

python -m mmgen_jax.studies.calibration --config=shapes_tiny --workdir=shapes-tiny \
  --config.evaluate.n=128 --config.evaluate.draws=8 --config.evaluate.temperature=1

Predicts everything from the rgb of held-out scenes. Factors are fitted on the second half of them, all else is measured
on the first half. With --store the model's folder gets the factors, and from then on `generate` applies them.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/calibration.png", "File of the plot.")
    flags.DEFINE_bool("store", False, "Write the factors, and the data set's depth range, to the model's folder.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Mapping

import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out, tiles
from mmgen_jax.metrics import calibration, report
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import known
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models import architectures
from mmgen_jax.sampling.draws import combined
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.system import files
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_config

HEADS = ("error", "AUSE", "AUSE of chance", "error of the surest half", "factor", "before", "after")
WIDTH, HEIGHT, EDGE = 300, 300, 50
COLORS = {"uncertainty": "#2563eb", "best order": "#16a34a", "chance": "#6b7280"}

Pixels = tuple[np.ndarray, np.ndarray]  # errors [P] and uncertainties [P]


def pixels(runner: Runner, batches: held_out.Scenes, facts: Facts, seed: int) -> dict[str, tuple[Pixels, Pixels]]:
    """Modality -> errors and uncertainties of all known pixels of the first half of the scenes, and of the second."""
    halves: dict[str, tuple[list[Pixels], list[Pixels]]] = {}
    progress, first = Progress("from rgb", batches.count * runner.draws, "samples"), 0
    for batch in batches:
        given = {"rgb": to_array(batch["rgb"])}
        numbers = np.arange(first, first + len(batch["rgb"]))
        drawn = to_values(runner.drawn(given, "", seed, "understanding", numbers, progress), facts)
        made = combined(drawn, runner.draws, facts)
        truth, there = (
            report.truth(batch, tuple(made.values), facts),
            report.present(batch, runner.sampler.architecture),
        )
        second = numbers >= batches.count // 2
        for m, value in made.values.items():
            error = MODALITIES[m].deviation(value, truth[m], facts)
            for half, rows in enumerate((~second, second)):
                where = known(truth[m]) & (there[m] & there["rgb"] & rows)[:, None, None]
                part = error[where], made.uncertainty[m][where]
                halves.setdefault(m, ([], []))[half].append(part)
        first += len(batch["rgb"])
    found = {m: (_joined(a), _joined(b)) for m, (a, b) in halves.items()}
    if not (whole := {m: both for m, both in found.items() if all(error.size for error, _ in both)}):
        raise UsageError(f"no modality has a pixel to compare with in both halves of the {batches.count} scenes")
    for m in found.keys() - whole.keys():
        say(f"{m} has no pixel to compare with in one half of the scenes")
    return whole


def _joined(parts: list[Pixels]) -> Pixels:
    error, uncertainty = (np.concatenate(x) for x in zip(*parts, strict=True))
    return error, uncertainty


def row(m: str, scored: Pixels, fitted: Pixels) -> dict[str, float]:
    """Numbers of one modality, with the names of `HEADS`.

    before and after: coverage of intervals that should hold 90%, or where there are no intervals the calibration error.
    """
    error, uncertainty = scored
    interval = MODALITIES[m].interval
    factor = calibration.factor(*fitted, interval)

    def measured(by: np.ndarray) -> float:
        return calibration.rate_gap(error, by) if interval is None else calibration.coverage(error, by, interval)

    chance = np.random.default_rng(1).random(len(error))
    half = calibration.sparsification(error, uncertainty)[calibration.STEPS // 2]
    areas = calibration.ause(error, uncertainty), calibration.ause(error, chance)
    numbers = error.mean(), *areas, half, factor, measured(uncertainty), measured(factor * uncertainty)
    return dict(zip(HEADS, map(float, numbers), strict=True))


def study(chosen: Settings, workdir: str) -> dict[str, tuple[Pixels, Pixels]]:
    """`pixels` of a model. Raises UsageError unless there are several draws and two scenes at least."""
    architecture, params = model_folders.load(workdir, chosen.sample.step)
    check_config(chosen, architecture, workdir)
    e, data = chosen.evaluate, chosen.data
    if e.draws < 2 or e.n < 2:
        name, value = ("draws", e.draws) if e.draws < 2 else ("n", e.n)
        raise UsageError(f"config key evaluate.{name} is {value}; a calibration needs at least 2")
    facts = architecture.facts.with_camera_of(tiles.read_facts(data.dir))
    names, size = architecture.modalities, architecture.image_size
    scenes = held_out.Scenes.first(data.dir, data.test_split, names, size, e.n, e.batch, "evaluate.n")
    return pixels(Runner.from_settings(chosen, architecture, params), scenes, facts, chosen.seed)


def store(chosen: Settings, workdir: str, factors: Mapping[str, float]) -> epath.Path:
    """Writes factors and the data set's depth range to the model's folder, and returns it."""
    folder = model_folders.locate(workdir)
    found = tiles.read_facts(chosen.data.dir)
    architecture = architectures.load(folder)
    facts = dataclasses.replace(architecture.facts, depth_range=found.depth_range or architecture.facts.depth_range)
    dataclasses.replace(architecture, calibration=dict(factors), facts=facts).save(folder)
    return folder


def plot(found: Mapping[str, tuple[Pixels, Pixels]]) -> np.ndarray:
    """Picture uint8 [H, W, 3] of the sparsification curves of each modality, as shares of its mean error."""
    canvas = Image.new("RGB", (WIDTH * len(found) + EDGE, HEIGHT + 30), pictures.PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for i, (m, ((error, uncertainty), _)) in enumerate(found.items()):
        left, width, height = EDGE + WIDTH * i, WIDTH - EDGE, HEIGHT - 2 * EDGE
        curves = {
            "uncertainty": uncertainty,
            "best order": error,
            "chance": np.random.default_rng(1).random(len(error)),
        }
        draw.rectangle((left, EDGE, left + width, EDGE + height), outline=pictures.MUTED)
        draw.text((left + width / 2, 26), m, pictures.INK, font, anchor="mm")
        draw.text((left + width / 2, HEIGHT - 24), "share of pixels removed", pictures.INK, font, anchor="mm")
        for share in (0.0, 0.5, 1.0):
            draw.text((left + share * width, HEIGHT - EDGE + 4), f"{share:g}", pictures.INK, font, anchor="ma")
            draw.text((left - 6, EDGE + (1 - share) * height), f"{share:g}", pictures.INK, font, anchor="rm")
        for name, by in curves.items():
            curve = calibration.sparsification(error, by) / max(float(error.mean()), 1e-12)
            across = left + np.arange(len(curve)) / len(curve) * width
            up = EDGE + (1 - np.clip(curve, 0, 1)) * height
            draw.line(list(zip(across.tolist(), up.tolist(), strict=True)), fill=COLORS[name], width=2)
    for i, (name, color) in enumerate(COLORS.items()):
        draw.text((EDGE + 130 * i, HEIGHT + 10), f"by {name}", color, font, anchor="lm")
    return np.asarray(canvas)


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    files.check_place(values.out, "--out", folder=False)
    chosen = settings.parse(values.config)
    if values.store:
        files.check_place(model_folders.locate(values.workdir), "--workdir", folder=True)
    found = study(chosen, values.workdir)
    rows = {m: row(m, *halves) for m, halves in found.items()}
    say(f"| | {' | '.join(HEADS)} |\n|---|{'---|' * len(HEADS)}")
    for m, numbers in rows.items():
        say(f"| {m} | {' | '.join(f'{numbers[key]:.4f}' for key in HEADS)} |")
    pictures.save_png(values.out, plot(found))
    say(f"\nwritten: {values.out}")
    if values.store:
        say(f"factors in {store(chosen, values.workdir, {m: numbers['factor'] for m, numbers in rows.items()})}")


if __name__ == "__main__":
    command.run(main)
