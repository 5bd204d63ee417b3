"""Shows what a model can do: a sheet for each family of tasks, and one gallery of all models shown so far.

python -m mmgen_jax.demo --config=shapes_tiny --workdir=shapes-tiny --out=quickstart --name=bundled

Writes OUT/NAME/*.png, and OUT/gallery.html, which also has the other names that are in OUT. Given are held-out scenes.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "quickstart", "Folder of the gallery.")
    flags.DEFINE_string("name", "model", "Folder in --out for the sheets of this model.")
    flags.DEFINE_string("title", "", "Heading of this model in the gallery; default: its name.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models import architectures
from mmgen_jax.sampling.options import Options
from mmgen_jax.show import gallery, pictures
from mmgen_jax.show.gallery import Section
from mmgen_jax.show.outputs import GALLERY, Outputs
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_config

CLASSES = 8  # largest number of classes that are shown
PER_CLASS = 2  # number of samples of each class
SCENES = 4  # number of held-out scenes for each given modality
COPIES = 6  # number of samples from the same condition
STORE = "sections.npz"

Values = dict[str, np.ndarray]


class Demo:
    """A model, how to sample it, and held-out scenes."""

    def __init__(self, model: MMGen, options: Options, scenes: Values):
        self.model, self.scenes, self._options = model, scenes, options.plain()

    def sections(self) -> dict[str, Section]:
        """Makes the sections, by file name: samples of classes, the rest from each modality, variety of samples."""
        found = {"classes": self.classes()}
        copies = {}
        for m in self.model.modalities:
            if m in self.scenes:
                outputs = self._generate(m)
                found[f"from_{m}"] = self.rest(outputs, m)
                if m != "rgb" and "rgb" in outputs:
                    copies[m] = outputs["rgb"][SCENES - 1 :]
        if "rgb" in self.scenes and self.model.architecture.path == "linear":  # which inpainting needs
            found["inpainting"] = self.inpainting()
        if copies:
            found["variety"] = self.variety(copies)
        return found

    def classes(self) -> Section:
        """Samples of each class; one row per class."""
        classes = self.model.class_names[:CLASSES]
        names = classes or ("no class",)
        say(f"{PER_CLASS} samples of each of {len(names)} classes")
        wanted = list(classes) * PER_CLASS or None
        outputs = self.model.draw(self._options, wanted, len(names) * PER_CLASS)
        columns: dict[str, np.ndarray] = {}
        for i in range(PER_CLASS):
            part = slice(i * len(names), (i + 1) * len(names))
            columns |= {f"{m} {i + 1}": x[part] for m, x in outputs.pictures().items()}
        return Section("Everything from a class", columns, outputs.caption, rows=names)

    def _generate(self, given: str) -> Outputs:
        """Draws one sample for each of `SCENES` scenes, and `COPIES - 1` more for the last one."""
        say(f"the rest from {given}")
        rows = [*range(SCENES), *[SCENES - 1] * (COPIES - 1)]
        return self.model.draw(self._options, n=len(rows), given={given: self.scenes[given][rows]})

    def rest(self, outputs: Outputs, given: str) -> Section:
        """Shows the rest from one modality next to the truth. Errors are shown for rgb, which nearly fixes the rest."""
        part = Outputs({m: x[:SCENES] for m, x in outputs.items()}, outputs.given, outputs.facts, outputs.caption)
        return part.comparison(self.scenes, f"The rest from {given}", errors=given == "rgb")

    def inpainting(self) -> Section:
        """Shows scenes whose middle is made anew, and scenes of which only the middle is known."""
        say("inpainting")
        rgb, size = self.scenes["rgb"][:SCENES], self.scenes["rgb"].shape[1]
        ring = np.ones((size, size), bool)
        ring[size // 4 : size - size // 4, size // 4 : size - size // 4] = False
        columns = {"rgb of the scene": rgb}
        for name, made, known in (("all but a hole", "inpainted", ring), ("the middle", "outpainted", ~ring)):
            columns[name] = np.where(known[..., None], rgb, np.uint8(pictures.MUTED[0]))
            for k in range(2):
                numbers = k * SCENES + np.arange(len(rgb))
                outputs = self.model.draw(self._options, n=numbers, given={"rgb": rgb}, keep={"rgb": known})
                columns[f"{made} {k + 1}"] = outputs["rgb"]
        return Section("A part of an image", columns, outputs.caption, ("all but a hole", "the middle"))

    def variety(self, copies: Values) -> Section:
        """Shows several samples from one condition, in a row for each given modality."""
        facts, truth = self.model.architecture.facts, {m: x[SCENES - 1] for m, x in self.scenes.items()}
        columns = {"condition": np.stack([MODALITIES[m].picture(truth[m], facts) for m in copies])}
        columns |= {f"sample {i + 1}": np.stack([x[i] for x in copies.values()]) for i in range(COPIES)}
        caption = "each row: one condition, the same for all samples, and different noise"
        return Section("One condition, several images", columns, caption, ("condition",), tuple(copies))


def run(config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike, name: str, title: str = "") -> epath.Path:
    """Writes sheets of one model to `out`/`name`, and `out`/gallery.html anew. Raises UsageError for bad input."""
    chosen = settings.parse(config)
    if not name or epath.Path(name).name != name or name in (".", ".."):
        raise UsageError(f"--name is {name!r}; allowed: the name of a folder in --out, without /")
    architecture = architectures.load(model_folders.locate(workdir))
    check_config(chosen, architecture, workdir)
    folder = files.path_of(out, "--out") / name
    files.check_place(folder, "--out", folder=True)
    files.check_files(folder, [STORE], "--out")
    files.check_files(out, [GALLERY], "--out")
    for path in _stored(out):
        gallery.restore(path)  # those of other models, before any work
    data, rows = chosen.data, chosen.sample.index + np.arange(SCENES)
    reader = open_split(data.dir, data.test_split, architecture.modalities, data.image_size)
    scenes = held_out.values(reader, rows, architecture.facts)
    sections = Demo(MMGen.load(workdir, chosen.sample.step), chosen.sample.options(), scenes).sections()

    folder.mkdir(parents=True, exist_ok=True)
    for file, section in sections.items():
        pictures.save_png(folder / f"{file}.png", pictures.sheet(section.columns, section.given, names=section.rows))
    chapter = title or name
    gallery.store(folder / STORE, [dataclasses.replace(s, chapter=chapter) for s in sections.values()])
    return assemble(out)


def _stored(out: epath.PathLike) -> list[epath.Path]:
    """Files with the sections of the models that are in `out`."""
    folder = epath.Path(out)
    return sorted(path / STORE for path in folder.iterdir() if (path / STORE).exists()) if folder.is_dir() else []


def assemble(out: epath.PathLike) -> epath.Path:
    """Writes `out`/gallery.html from the sections of all models in `out`, and returns its path."""
    sections = [section for path in _stored(out) for section in gallery.restore(path)]
    path = epath.Path(out) / GALLERY
    caption = (
        "One diffusion transformer for images, depth, surface normals and segmentation. Click a picture to enlarge it."
    )
    gallery.write_gallery(path, sections, "MMGen", caption)
    return path


def main(argv: Sequence[str]) -> None:
    del argv
    values = flags.FLAGS
    path = run(values.config, values.workdir, values.out, values.name, values.title)
    say(f"sheets in {path.parent / values.name}; gallery: {path}")


if __name__ == "__main__":
    command.run(main)
