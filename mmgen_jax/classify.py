"""Tells the class of images, or of any of their modalities, with a generative model: zero-shot classification.

python -m mmgen_jax.classify --config=shapes_tiny --workdir=shapes-tiny --config.classify.given=rgb
python -m mmgen_jax.classify --config=shapes_tiny --workdir=shapes-tiny --config.sample.given.rgb=photo.png

Prints the probabilities of the classes and the evaluations that they took; of held-out scenes, whose classes are known,
also the accuracy and the expected calibration error.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "", "File of all probabilities, a TSV; empty = none.")
    command.parse()  # before the imports below, which take seconds

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling.classification import Classified, calibration_error, fit_temperature
from mmgen_jax.sampling.given import named, set_paths
from mmgen_jax.settings import Settings
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.training.architecture import check_classes, check_config

SHOWN = 8  # samples in the table that is printed


def observed(chosen: Settings, architecture: Architecture) -> tuple[dict[str, object], np.ndarray | None]:
    """What is observed: files, or values of scenes and their classes int [n], -1 for none. Raises UsageError."""
    names, section, data = architecture.modalities, chosen.classify, chosen.data
    given = set_paths(chosen.sample.given)
    paths: dict[str, object] = {choice("modality of sample.given", m, names): path for m, path in given.items()}
    if paths:
        return paths, None
    wanted = named("classify.given", section.given, names)
    reader = open_split(data.dir, data.test_split, names, architecture.image_size)
    rows = range(held_out.at_most(reader, data.test_split, section.n, "classify.n"))
    values = held_out.values(reader, rows, architecture.facts)
    for m in wanted:
        if m not in values:
            raise UsageError(f"config key classify.given is {section.given!r}; some scenes have no {m}")
    return {m: values[m] for m in wanted}, reader.load(rows)["class_id"]


def run(config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike = "") -> Classified:
    """Classifies, prints tables, writes all probabilities to `out`, and returns them. Raises UsageError."""
    chosen = settings.parse(config)
    section, stored = chosen.classify, architectures.load(model_folders.locate(workdir))
    check_config(chosen, stored, workdir)
    given, class_id = observed(chosen, stored)
    if class_id is not None:
        check_classes(chosen.data.dir, stored, workdir)
        if section.calibrate >= len(class_id):
            raise UsageError(
                f"config key classify.calibrate is {section.calibrate}; it must be below the {len(class_id)} scenes"
            )
        if section.calibrate and not (class_id[: section.calibrate] >= 0).any():
            raise UsageError(f"config key classify.calibrate is {section.calibrate}; none of these scenes has a class")
    if out:
        files.check_place(out, "--out", folder=False)
    found = MMGen.load(workdir, chosen.sample.step).classify(given, **vars(section.effort()))
    if class_id is not None and section.calibrate:
        rows = np.flatnonzero(class_id[: section.calibrate] >= 0)
        found = found.at(fit_temperature(found.log_ratio[rows], class_id[rows]))
    say(table(found, class_id, SHOWN).expandtabs(12))
    say(f"{found.evaluations.mean():.1f} evaluations of the network for each sample")
    if class_id is not None:
        say(scores(found, class_id, section.calibrate))
    if out:
        epath.Path(out).parent.mkdir(parents=True, exist_ok=True)
        files.write(epath.Path(out), (table(found, class_id) + "\n").encode())
        say(f"written: {out}")
    return found


def scores(found: Classified, class_id: np.ndarray, calibrate: int) -> str:
    """Accuracy of the scenes after the first ones, which calibrate, and their calibration errors.

    Scenes without a class count in nothing.
    """
    rows = calibrate + np.flatnonzero(class_id[calibrate:] >= 0)
    if not rows.size:
        return "no scene that is scored has a class"
    right = found.best[rows] == class_id[rows]
    before, after = (calibration_error(each.probabilities[rows], class_id[rows]) for each in (found.at(1.0), found))
    lines = [f"accuracy {right.mean():.4f} on {len(right)} scenes", f"expected calibration error {before:.4f}"]
    if calibrate:
        chose = (class_id[:calibrate] >= 0).sum()
        lines[-1] += f", and {after:.4f} at temperature {found.temperature:.4g}, which {chose} other scenes chose"
    return "\n".join(lines)


def table(found: Classified, class_id: np.ndarray | None, most: int | None = None) -> str:
    """Tab-separated lines: number of the sample, its class if known, the best one, evaluations, probabilities."""
    known = [] if class_id is None else ["class"]
    lines = ["\t".join(["sample", *known, "best", "evaluations", *found.class_names])]
    for i, row in enumerate(found.probabilities[:most]):
        truth = [] if class_id is None else [found.class_names[class_id[i]] if class_id[i] >= 0 else "-"]
        shown = [str(i), *truth, found.class_names[found.best[i]], str(found.evaluations[i])]
        lines.append("\t".join([*shown, *(f"{p:.4f}" for p in row)]))
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    del argv
    run(flags.FLAGS.config, flags.FLAGS.workdir, flags.FLAGS.out)


if __name__ == "__main__":
    command.run(main)
