"""What editing keeps of an image and what it changes: partial noising, inversion, translation by geometry; and a sheet.

python -m mmgen_jax.studies.editing --config=configs/shapes_tiny.py --workdir=shapes-tiny --config.evaluate.n=64

Turns held-out scenes into the next class, in rgb alone. The table has how near the result is to the image, how often
the bundled classifier sees the wanted class, and how far the depth that is read from the result is from the scene's.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/shapes-tiny/editing.png", "File of the sheet.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Mapping

import numpy as np
from etils import epath

from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out, tiles
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.metrics import classifier, dense
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.settings import Settings, parse
from mmgen_jax.show import pictures
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_config

TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)  # at which partial noising begins
VIA = ("depth", "normal")
AGAIN, ITSELF = "encoded and decoded", "inverted, its own class"
HEADS = ("PSNR to the image, dB", "wanted class", "depth read, AbsRel")
SCENES = 6  # rows of the sheet


class Study:
    """A model, the rgb and the classes of held-out scenes, and the classes that they are turned into."""

    def __init__(self, chosen: Settings, workdir: str):
        """Raises UsageError for a model without rgb, depth or normals, or of fewer than two classes."""
        architecture, params = model_folders.load(workdir, chosen.sample.step)
        check_config(chosen, architecture, workdir)
        if missing := [m for m in ("rgb", *VIA) if m not in architecture.modalities]:
            raise UsageError(f"the model {workdir!r} has no {' and no '.join(missing)}; this study needs it")
        if len(architecture.facts.class_names) < 2:
            raise UsageError(f"the model {workdir!r} has no two classes, of which one could become the other")
        data = chosen.data
        self.facts = architecture.facts.with_camera_of(tiles.read_facts(data.dir))
        reader = open_split(data.dir, data.test_split, architecture.modalities, architecture.image_size)
        numbers = np.arange(min(chosen.evaluate.n, len(reader)))
        self._scenes, self._own = held_out.values(reader, numbers, self.facts), reader.load(numbers)["class_id"]
        self.next = (self._own + 1) % len(architecture.facts.class_names)
        self._model, self._runner = MMGen(architecture, params), Runner.from_settings(chosen, architecture, params)
        self._judge, self._seed = classifier.for_classes(architecture.facts.class_names), chosen.seed
        self._options = dataclasses.replace(chosen.sample.options().plain(), wanted="rgb")

    def made(self) -> dict[str, np.ndarray]:
        """The rgb uint8 [n, H, W, 3] of each way."""
        rgb, n, model, how = self._scenes["rgb"], len(self._own), self._model, self._options
        found = {AGAIN: model.decode(model.encode({"rgb": rgb}))["rgb"]}
        for time in TIMES:
            options = dataclasses.replace(how, start_time=time)
            found[f"from t = {time:g}"] = model.draw(options, self.next, n, start={"rgb": rgb})["rgb"]
        noise = model.invert({"rgb": rgb}, class_id=self._own, batch=how.batch)
        found[ITSELF] = model.draw(how, self._own, n, noise=noise)["rgb"]
        found["inverted, the next class"] = model.draw(how, self.next, n, noise=noise)["rgb"]
        options = dataclasses.replace(how, via="+".join(VIA))
        found[f"via {' and '.join(VIA)}"] = model.draw(options, self.next, n, {"rgb": rgb})["rgb"]
        return found

    def row(self, name: str, rgb: np.ndarray) -> dict[str, float]:
        """Scores of what a way made."""
        near = dense.headline("rgb", rgb, self._scenes["rgb"], self.facts)
        wanted = self._own if name in (AGAIN, ITSELF) else self.next
        seen = classifier.accuracy(self._judge.predict(rgb), wanted) if self._judge is not None else float("nan")
        read = to_values(self._runner.rest_from_rgb(rgb, self._seed), self.facts)
        kept = dense.headline("depth", read["depth"], self._scenes["depth"], self.facts)
        return dict(zip(HEADS, (near, seen, kept), strict=True))

    def sheet(self, made: Mapping[str, np.ndarray]) -> np.ndarray:
        """Picture uint8 [H, W, 3] of images, and what each way made of them."""
        names = self.facts.class_names
        rows = [f"{names[i]} to {names[j]}" for i, j in zip(self._own[:SCENES], self.next[:SCENES], strict=True)]
        columns = {"image": self._scenes["rgb"][:SCENES]} | {name: rgb[:SCENES] for name, rgb in made.items()}
        return pictures.sheet(columns, given=("image",), names=rows)


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows as Markdown."""
    lines = [f"| rgb | {' | '.join(HEADS)} |", "|---" * (len(HEADS) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{row[head]:.4f}' for head in HEADS)} |" for name, row in rows.items()]
    return "\n".join(lines)


def run(chosen: Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[str, float]]:
    """Prints the table, writes the sheet, returns the rows. Raises UsageError as `Study` does."""
    study = Study(chosen, workdir)
    made = study.made()
    rows = {name: study.row(name, rgb) for name, rgb in made.items()}
    say(table(rows))
    pictures.save_png(epath.Path(out), study.sheet(made))
    return rows


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    files.check_place(values.out, "--out", folder=False)
    run(parse(values.config), values.workdir, values.out)
    say(f"\nwritten: {values.out}")


if __name__ == "__main__":
    command.run(main)
