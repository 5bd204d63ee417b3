"""What editing keeps of an image and what it changes: partial noising, inversion, translation by geometry; and a sheet.

python -m mmgen_jax.studies.editing --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=64

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

from mmgen_jax.metrics import classifier, dense
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.studies import opening
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

TIMES = (0.2, 0.4, 0.6, 0.8, 1.0)  # at which partial noising begins
VIA = ("depth", "normal")
AGAIN, ITSELF = "encoded and decoded", "inverted, its own class"
HEADS = ("PSNR to the image, dB", "wanted class", "depth read, AbsRel")
SCENES = 6  # rows of the sheet


class Study:
    """A model, the rgb and the classes of held-out scenes, and the classes that they are turned into."""

    def __init__(self, chosen: Settings, workdir: str):
        """Raises UsageError for a model without rgb, depth or normals, or of fewer than two classes."""
        self._opened = opening.opened(chosen, workdir, ("rgb", *VIA))
        names = self._opened.architecture.facts.class_names
        if len(names) < 2:
            raise UsageError(f"the model {workdir!r} has no two classes, of which one could become the other")
        self._own = self._opened.class_id
        self.next = (self._own + 1) % len(names)
        self._judge = classifier.for_classes(names)
        self._options = dataclasses.replace(chosen.sample.options().plain(), wanted="rgb")

    def made(self) -> dict[str, np.ndarray]:
        """The rgb uint8 [n, H, W, 3] of each way."""
        rgb, n, model, how = self._opened.scenes["rgb"], len(self._own), self._opened.model, self._options
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
        scenes, facts = self._opened.scenes, self._opened.facts
        near = dense.headline("rgb", rgb, scenes["rgb"], facts)
        wanted = self._own if name in (AGAIN, ITSELF) else self.next
        seen = classifier.accuracy(self._judge.predict(rgb), wanted) if self._judge is not None else float("nan")
        kept = dense.headline("depth", self._opened.read(rgb)["depth"], scenes["depth"], facts)
        return dict(zip(HEADS, (near, seen, kept), strict=True))

    def sheet(self, made: Mapping[str, np.ndarray]) -> np.ndarray:
        """Picture uint8 [H, W, 3] of images, and what each way made of them."""
        names = self._opened.facts.class_names
        rows = [f"{names[i]} to {names[j]}" for i, j in zip(self._own[:SCENES], self.next[:SCENES], strict=True)]
        columns = {"image": self._opened.scenes["rgb"][:SCENES]} | {name: rgb[:SCENES] for name, rgb in made.items()}
        return pictures.sheet(columns, given=("image",), names=rows)


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The rows as Markdown."""
    return opening.table("rgb", HEADS, rows)


def run(chosen: Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[str, float]]:
    """Prints the table, writes the sheet, returns the rows. Raises UsageError as `Study` does."""
    study = Study(chosen, workdir)
    made = study.made()
    rows = {name: study.row(name, rgb) for name, rgb in made.items()}
    say(table(rows))
    pictures.save_png(out, study.sheet(made))
    return rows


if __name__ == "__main__":
    command.run(opening.into_file(run))
