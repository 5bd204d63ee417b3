"""What studies of images begin with, a model, held-out scenes and what the model reads from them, and end with."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from absl import flags
from etils import epath

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out, tiles
from mmgen_jax.data.pipeline import Batch
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.settings import Settings
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_classes, check_config

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Opened:
    """A model and the first `evaluate.n` scenes of the test split, which are read when they are asked for.

    Attributes:
      chosen: the settings.
      architecture: of the model.
      params: its weights.
      workdir: what the model was called.
    """

    chosen: Settings
    architecture: Architecture
    params: Params
    workdir: str

    @functools.cached_property
    def model(self) -> MMGen:
        return MMGen(self.architecture, self.params)

    @functools.cached_property
    def facts(self) -> Facts:
        """What the model says of its data, with the camera of the data set."""
        return self.architecture.facts.with_camera_of(tiles.read_facts(self.chosen.data.dir))

    @functools.cached_property
    def _batch(self) -> Batch:
        a, data = self.architecture, self.chosen.data
        count = self.chosen.evaluate.n
        return held_out.first(data.dir, data.test_split, a.modalities, a.image_size, count, "evaluate.n")

    @functools.cached_property
    def scenes(self) -> Values:
        """Values [n, H, W(, 3)] of the modalities that all scenes have."""
        return held_out.of_batch(self._batch, self.architecture.modalities, self.facts)

    @property
    def class_id(self) -> np.ndarray:
        """Classes int [n] of the scenes. Raises UsageError where they are not the model's, or a scene has none."""
        check_classes(self.chosen.data.dir, self.architecture, self.workdir)
        if without := int((self._batch["class_id"] < 0).sum()):
            raise UsageError(
                f"{without} of {len(self._batch['class_id'])} scenes have no class; this study needs one of each"
            )
        return self._batch["class_id"]

    @functools.cached_property
    def _runner(self) -> Runner:
        return Runner.from_settings(self.chosen, self.architecture, self.params)

    def read(self, rgb: np.ndarray) -> Values:
        """Values of all other modalities as the model reads them from rgb uint8 [N, H, W, 3], see `evaluate`."""
        return to_values(self._runner.rest_from_rgb(rgb, self.chosen.seed), self.facts)

    def read_whole(self, rgb: np.ndarray) -> Values:
        """Values [H, W(, 3)] of all other modalities, drawn as `evaluate` does, of a whole image uint8 [H, W, 3]."""
        e, options = self.chosen.evaluate, self.chosen.sample.options().plain()
        how = dataclasses.replace(options, solver=e.solver, steps=e.steps, temperature=e.temperature, draws=e.draws)
        how = dataclasses.replace(how, whole=options.whole or 1.0)
        made = self.model.draw(how, n=1, given={"rgb": rgb[None]}, progress=lambda _: None)
        return {m: value[0] for m, value in made.items()}

    def pictures(self, names: Sequence[str], count: int) -> Values:
        """Pictures uint8 [count, H, W, 3] of these modalities of the first scenes."""
        return {m: MODALITIES[m].picture(self.scenes[m][:count], self.facts) for m in names}


def opened(chosen: Settings, workdir: str, needed: Sequence[str] = (), words: str = "it") -> Opened:
    """Loads a model for a study. Raises UsageError if it lacks a modality, or differs from the settings.

    `words` are what the study needs, where a modality is lacking.
    """
    architecture, params = model_folders.load(workdir, chosen.sample.step)
    if missing := [m for m in needed if m not in architecture.modalities]:
        raise UsageError(f"the model {workdir!r} has no {' and no '.join(missing)}; this study needs {words}")
    check_config(chosen, architecture, workdir)
    return Opened(chosen, architecture, params, workdir)


Study = Callable[[Settings, str, str], object]  # of the settings, the workdir and the place that --out names
Main = Callable[[Sequence[str]], None]


def into_file(study: Study) -> Main:
    """The `main` of a study of --config and --workdir that writes --out, where a file can be written."""
    return functools.partial(_into, study, [])


def into_folder(study: Study, names: Sequence[str]) -> Main:
    """The `main` of a study of --config and --workdir that writes files of these names into the folder --out."""
    return functools.partial(_into, study, names)


def _into(study: Study, names: Sequence[str], argv: Sequence[str]) -> None:
    del argv
    values = flags.FLAGS
    files.check_place(values.out, "--out", folder=bool(names))
    study(settings.parse(values.config), values.workdir, values.out)
    say(f"\nwritten: {', '.join(str(epath.Path(values.out) / name) for name in names) or values.out}")


def table(title: str, heads: Sequence[str], rows: Mapping[str, Mapping[str, float]]) -> str:
    """Rows of numbers, by name, as Markdown; `title` is what the names are of."""
    lines = [f"| {title} | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(f'{row[head]:.4f}' for head in heads)} |" for name, row in rows.items()]
    return "\n".join(lines)
