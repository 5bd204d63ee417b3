"""Audits the labels of a data set: predicts each from all other modalities, and lists those that disagree.

python -m mmgen_jax.audit --config=shapes_tiny --workdir=shapes-tiny --out=out/audit

Writes OUT/worst.png, the labels that disagree most beside predictions, and OUT/suspects.tsv, which
`python -m mmgen_jax.label --only=OUT/suspects.tsv` labels anew.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "audit", "Folder of the results.")
    flags.DEFINE_float("beyond", 6.0, "Labels with at least this score are listed, in typical deviations.")
    flags.DEFINE_integer("draws", 3, "Predictions of each label.", lower_bound=1)
    command.parse()  # before the imports below, which take seconds

import dataclasses
import math

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out, tiles
from mmgen_jax.data.pipeline import Reader
from mmgen_jax.experts import suspects
from mmgen_jax.experts.suspects import Suspect
from mmgen_jax.metrics import auditing
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models import architectures
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.system import files
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_config

SHEET, LIST = "worst.png", "suspects.tsv"
SHOWN = 12  # labels on the sheet


def run(
    config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike, beyond: float = 6.0, draws: int = 3
) -> list[Suspect]:
    """Audits the first `evaluate.n` scenes of `data.test_split`; returns what is listed. Raises UsageError."""
    chosen = settings.parse(config)
    check_beyond(beyond)
    files.check_place(out, "--out", folder=True)
    files.check_files(out, [SHEET, LIST], "--out")
    runner, scenes, facts = opened(chosen, workdir, draws)
    found: list[Suspect] = []
    worst: list[tuple[Suspect, int]] = []
    for m in auditing.labels(runner.sampler.architecture.modalities):
        listed = scored(runner, scenes, m, facts)
        count = sum(s.score >= beyond for s, _ in listed)
        say(f"{m}: {count} of {len(listed)} labels disagree by {beyond:g} typical deviations or more")
        found += [s for s, _ in listed if s.score >= beyond]
        worst = sorted([*worst, *listed], key=lambda pair: -pair[0].score)[:SHOWN]
    folder = epath.Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    found.sort(key=lambda s: -s.score)
    if worst:
        pictures.save_png(folder / SHEET, sheet(runner, scenes.reader, worst, facts))
        say(f"look at {folder / SHEET}")
    suspects.write(folder / LIST, found)
    say(f"written: {folder / LIST}")
    return found


def check_beyond(beyond: float) -> None:
    """Raises UsageError for a score that lists nothing or cannot be compared."""
    if not math.isfinite(beyond):
        raise UsageError(f"--beyond is {beyond}; allowed: a finite number")


def opened(chosen: Settings, workdir: epath.PathLike, draws: int) -> tuple[Runner, held_out.Scenes, Facts]:
    """A model that draws each label so often, the first `evaluate.n` scenes of `data.test_split`, and their facts."""
    stored, data, e = architectures.load(model_folders.locate(workdir)), chosen.data, chosen.evaluate
    check_config(chosen, stored, workdir)
    scenes = held_out.Scenes.first(
        data.dir, data.test_split, stored.modalities, stored.image_size, e.n, e.batch, "evaluate.n"
    )
    runner = Runner.from_settings(auditing.drawing(chosen, draws), *model_folders.load(workdir, chosen.sample.step))
    return runner, scenes, stored.facts.with_camera_of(tiles.read_facts(data.dir))


def scored(runner: Runner, scenes: held_out.Scenes, modality: str, facts: Facts) -> list[tuple[Suspect, int]]:
    """Each label of a modality that can be audited, with its score and the number of its scene."""
    progress, first = Progress(f"audit of {modality}", scenes.count * runner.draws, "predictions"), 0
    parts, side = [], 1
    for batch in scenes:
        numbers = np.arange(first, first + len(batch["present"]))
        maps = auditing.predict(runner, batch, numbers, modality, facts, progress).maps
        parts.append(auditing.squares(maps))
        first, side = first + len(numbers), maps.shape[1]
    most, corners = (np.concatenate(column) for column in zip(*parts, strict=True))
    scored = np.flatnonzero(np.isfinite(most).all(1))
    if not len(scored):
        return []
    deviations = auditing.Typical.of(most[scored]).deviations(most[scored])
    size = deviations.argmax(1)
    listed = []
    for i, deviation, part in zip(scored, deviations, size, strict=True):
        top, left = corners[i, part].tolist()
        square = top, left, side // auditing.PARTS[part]
        listed.append((Suspect(modality, scenes.reader.key(int(i)), float(deviation[part]), *square), int(i)))
    return listed


def sheet(runner: Runner, reader: Reader, worst: list[tuple[Suspect, int]], facts: Facts) -> np.ndarray:
    """Picture of labels, a row each: the image, the label, one prediction of it, and where they disagree."""
    columns: dict[str, list[np.ndarray]] = {"image": [], "label": [], "predicted": [], "disagreement": []}
    one = dataclasses.replace(runner, understanding=dataclasses.replace(runner.understanding, batch=1))
    for suspect, number in worst:
        batch, row = reader.load([number]), MODALITIES[suspect.modality]
        found = auditing.predict(one, batch, np.array([number]), suspect.modality, facts, lambda _: None)
        columns["image"].append(batch["rgb"][0] if "rgb" in batch else np.zeros((*found.maps.shape[1:], 3), np.uint8))
        columns["label"].append(row.picture(np.nan_to_num(found.label)[0].astype(found.drawn.dtype), facts))
        columns["predicted"].append(row.picture(found.drawn[0, 0], facts))
        columns["disagreement"].append(pictures.heat(found.maps[0]))
    names = [f"{s.modality} {s.key.rsplit('/', 1)[-1]}: {s.score:.1f}" for s, _ in worst]
    return pictures.sheet({label: np.stack(images) for label, images in columns.items()}, names=names)


def main(argv: list[str]) -> None:
    del argv
    v = flags.FLAGS
    run(v.config, v.workdir, v.out, v.beyond, v.draws)


if __name__ == "__main__":
    command.run(main)
