"""Reads whole rendered photos with a model of a smaller size: how right the depth is, and a sheet to look at.

python -m mmgen_jax.studies.whole --config=shapes_tiny --workdir=shapes-tiny

Held-out scenes are rendered large and cut to 5 : 3. All else is predicted from their rgb as `evaluate` predicts it, at
the model's size and at twice its size (`sample.whole`). The table has the correlation of depth with the truth.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/whole.png", "File of the sheet.")
    flags.DEFINE_integer("width", 240, "Width of the photos in pixels.", lower_bound=40)
    command.parse()  # before the imports below, which take seconds

import dataclasses

import numpy as np
from etils import epath

from mmgen_jax import settings
from mmgen_jax.data.shapes.builder import scene_pixels
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import pictures
from mmgen_jax.show.outputs import Outputs
from mmgen_jax.studies.opening import Opened, Values, into_file, opened
from mmgen_jax.system.console import say

SCENES = 3
TIMES = (1.0, 2.0)  # the model's size at which photos are computed


def photos(begun: Opened, width: int) -> Values:
    """Values [3, H, width(, 3)] of held-out scenes: the middle rows, three for every five columns."""
    stored, _ = scene_pixels(begun.chosen.seed, "test", np.arange(SCENES), width)
    height = 3 * width // 5
    rows = slice((width - height) // 2, (width + height) // 2)
    facts = begun.architecture.facts
    return {m: MODALITIES[m].value(to_array(stored[m][:, rows]), facts) for m in ("rgb", "depth")}


def read(begun: Opened, rgb: np.ndarray, whole: float) -> Outputs:
    """All that is predicted from photos uint8 [n, H, W, 3], at so many times the model's size."""
    e, options = begun.chosen.evaluate, begun.chosen.sample.options().plain()
    how = dataclasses.replace(options, solver=e.solver, steps=e.steps, temperature=e.temperature, whole=whole)
    return begun.model.draw(how, n=len(rgb), given={"rgb": rgb})


def correlation(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean over images [n, H, W] of the correlation of their pixels."""
    return float(np.mean([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(found, truth, strict=True)]))


def run(chosen: settings.Settings, workdir: str, out: epath.PathLike, width: int = 240) -> dict[float, float]:
    """Prints the table, writes the sheet, returns the correlations. Raises UsageError as `opened` does."""
    begun = opened(chosen, workdir, ("rgb", "depth"))
    scenes = photos(begun, width)
    found = {whole: read(begun, scenes["rgb"], whole) for whole in TIMES}
    rows = {whole: correlation(made["depth"], scenes["depth"]) for whole, made in found.items()}
    say("| `sample.whole` | correlation with the true depth |\n|---|---|")
    for whole, value in rows.items():
        say(f"| {whole:g} | {value:.4f} |")
    pictures.save_png(out, found[TIMES[0]].sheet())
    return rows


if __name__ == "__main__":
    command.run(into_file(lambda chosen, workdir, out: run(chosen, workdir, out, flags.FLAGS.width)))
