"""Tells whether a model gets better when the labels that an audit lists are made anew, or left out.

python -m mmgen_jax.data.shapes --data_dir=data/relabel --size=32 --train=6000 --test=500
python -m mmgen_jax.studies.relabel --config=shapes_quick --config.data.dir=data/relabel --out=runs/relabel

A share of the labels of the train split is made wrong (see `wrong_labels`), and a model is trained on them. It audits
what it was trained on. Then its training goes on from its weights for `--more` steps on each of `TREATMENTS` of the
labels, with the same seeds, and the results are scored on the test split, whose labels are right. The labels that are
made anew come through `label --only`, from files of two experts: the right labels stand for a better one, and the
model's own predictions from the other modalities for a user who has none.

The same command again does what is left.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("out", None, "Folder of data sets, runs and results.", required=True)
    flags.DEFINE_float("share", 0.1, "Share of the labels of each modality that are made wrong.")
    flags.DEFINE_float("beyond", 6.0, "Labels with at least this score are suspects, in typical deviations.")
    flags.DEFINE_integer("draws", 3, "Predictions of each label.", lower_bound=1)
    flags.DEFINE_integer("more", 300, "Steps of training that follow the audit.", lower_bound=1)
    flags.DEFINE_integer("seeds", 2, "Trainings on each treatment of the labels.", lower_bound=1)
    command.parse()  # before the imports below, which take seconds

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from mmgen_jax import audit, evaluate, settings, train
from mmgen_jax.data.held_out import Scenes
from mmgen_jax.data.pipeline import Reader, open_split
from mmgen_jax.data.tiles import read_facts
from mmgen_jax.experts import suspects
from mmgen_jax.metrics import auditing
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.settings import Settings
from mmgen_jax.studies import paired, wrong_labels
from mmgen_jax.studies.dtypes import METRICS
from mmgen_jax.studies.opening import table
from mmgen_jax.studies.treated_labels import absent, labelled, predicted, right
from mmgen_jax.studies.wrong_labels import Labels, Wrong
from mmgen_jax.system import files, reading
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.optimizer import learning_rate

TREATMENTS = {
    "corrupted": "as they are",
    "without": "suspects left out",
    "predicted": "suspects predicted by the model itself",
    "relabelled": "suspects labelled by a better expert",
    "clean": "all right",
}
ASKED, WRONG, AUDIT, FIRST = "study.json", "wrong.tsv", "audit.json", "runs/first"


@dataclasses.dataclass(frozen=True)
class Study:
    """What is asked, and where the results are.

    Attributes:
      chosen: the settings of the first training; `data.dir` has labels that are right.
      folder: of everything that is made.
      share: of the labels of each modality, how many are made wrong.
      beyond: the score from which a label is a suspect.
      draws: predictions of each label in the audit.
      more: steps of the trainings that follow it.
    """

    chosen: Settings
    folder: Path
    share: float
    beyond: float
    draws: int
    more: int

    def on(self, treatment: str) -> Settings:
        """The settings with labels that were treated so."""
        folder = self.chosen.data.dir if treatment == "clean" else str(self.folder / "data" / treatment)
        return self.chosen.changed(data={"dir": folder})

    def split(self, treatment: str) -> Reader:
        """The train split of labels that were treated so."""
        data = self.on(treatment).data
        return open_split(data.dir, data.train_split, data.modalities, data.image_size)

    def begin(self) -> dict[str, float]:
        """Trains the model that audits, and returns its scores on the test split."""
        return self._trained(self.on("corrupted"), self.folder / FIRST)

    def go_on(self, treatment: str, seed: int) -> dict[str, float]:
        """Goes on with the training of that model, and returns the scores."""
        chosen = self.on(treatment).changed(train={"init_from": str(self.folder / FIRST), "steps": self.more})
        chosen = dataclasses.replace(chosen, seed=self.chosen.seed + 1 + seed)
        return self._trained(chosen, self.folder / "runs" / f"{treatment}-{seed}")

    def _trained(self, chosen: Settings, workdir: Path) -> dict[str, float]:
        report = workdir / evaluate.FILE
        if not report.exists():
            train.run(chosen, workdir)
            evaluate.score(self.chosen, workdir)
        return reading.json_file(report)["understanding"]["model"]

    def corrupt(self) -> list[Wrong]:
        """Writes what is asked, the list of wrong labels, which it returns, and their data set. Raises UsageError."""
        data, asked = self.chosen.data, self._asked()
        labels, wrong = wrong_labels.corrupted(self.split("clean"), read_facts(data.dir), self.share, self.chosen.seed)
        if not wrong:
            raise UsageError(f"--share is {self.share:g}; it must be so large that a label is made wrong")
        files.write(self.folder / ASKED, (json.dumps(asked, indent=1) + "\n").encode())
        files.write(self.folder / WRONG, "".join("\t".join(line) + "\n" for line in [Wrong._fields, *wrong]).encode())
        wrong_labels.write(self.folder / "data" / "corrupted", data.dir, data.train_split, lambda: labels)
        return wrong

    def _asked(self) -> dict:
        """All settings. Raises UsageError for one that is not allowed, and if the folder has a study with others."""
        if not 0 < self.share <= 0.5:
            raise UsageError(f"--share is {self.share:g}; allowed: above 0, to 0.5, as most labels must be right")
        audit.check_beyond(self.beyond)
        learning_rate(self.chosen.optim, self.more)  # which must have room for warmup and decay
        flagged = {name: getattr(self, name) for name in ("share", "beyond", "draws", "more")}
        asked = json.loads(self.chosen.to_json()) | flagged
        path = self.folder / ASKED
        there = reading.json_file(path) if path.exists() else asked
        if names := [name for name in asked if there.get(name) != asked[name]]:
            raise UsageError(f"--out {self.folder} has a study with other {', '.join(names)}; give another folder")
        return asked

    def audit(self, wrong: Sequence[Wrong]) -> dict:
        """Audits the labels by a model that was trained on them; writes the suspects, returns what `judged` does."""
        path = self.folder / AUDIT
        if not path.exists():
            runner, scenes, facts = self._opened()
            names = auditing.labels(runner.sampler.architecture.modalities)
            scored = [suspect for m in names for suspect, _ in audit.scored(runner, scenes, m, facts)]
            found = sorted((s for s in scored if s.score >= self.beyond), key=lambda s: -s.score)
            suspects.write(self.folder / audit.LIST, found)
            files.write(path, json.dumps(wrong_labels.judged(scored, wrong, self.beyond), indent=1).encode())
        return reading.json_file(path)

    def _opened(self) -> tuple[Runner, Scenes, Facts]:
        """What an audit of all labels of the split begins with, see `audit.opened`."""
        chosen, count = self.on("corrupted"), len(self.split("corrupted"))
        chosen = chosen.changed(data={"test_split": chosen.data.train_split}, evaluate={"n": count})
        return audit.opened(chosen, self.folder / FIRST, self.draws)

    def treat(self) -> None:
        """Writes the data sets in which the suspects are treated. Raises UsageError if there are none."""
        only, source = self.folder / audit.LIST, self.folder / "data" / "corrupted"
        if not (listed := suspects.read(only)):
            raise UsageError(f"--beyond is {self.beyond:g}; it must be so low that the audit lists a label")
        truth, labels = self.split("clean"), self.folder / "labels"
        ways: dict[str, Callable[[], Labels]] = {
            "without": lambda: absent(listed),
            "predicted": lambda: labelled(labels / "predicted", truth, predicted(*self._opened(), listed), only),
            "relabelled": lambda: labelled(labels / "relabelled", truth, right(truth, listed), only),
        }
        for treatment, way in ways.items():
            wrong_labels.write(self.folder / "data" / treatment, source, truth.split, way)


def run(study: Study, seeds: int) -> dict[str, list[dict[str, float]]]:
    """Does all that is left, prints the tables, and returns treatment -> scores of each seed. Raises UsageError."""
    wrong, before = study.corrupt(), study.begin()
    found = study.audit(wrong)
    study.treat()
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in TREATMENTS}
    for seed in range(seeds):
        for name, of in scores.items():
            of.append(study.go_on(name, seed))
    say(f"\n{found['listed']} labels are suspects; {found['hit']} of them and {found['wrong']} of all are wrong\n")
    say(table("label", ("AUROC", "share listed"), found["cases"]))
    tables = paired.compared(scores, "corrupted", METRICS)
    means, apart = ({TREATMENTS[name]: row for name, row in rows.items()} for rows in tables)
    say("\n" + table("labels", METRICS, {"before the audit": before} | means))
    if apart:
        say("\n" + table(f"less {TREATMENTS['corrupted']}", [h for m in METRICS for h in (m, f"{m} +-")], apart))
    return scores


def main(argv: list[str]) -> None:
    del argv
    v = flags.FLAGS
    files.check_place(v.out, "--out", folder=True)
    if files.is_remote(v.out):
        raise UsageError(f"--out is {v.out!r}; allowed: a folder on this machine, as labels are written there")
    run(Study(settings.parse(v.config), Path(v.out), v.share, v.beyond, v.draws, v.more), v.seeds)


if __name__ == "__main__":
    command.run(main)
