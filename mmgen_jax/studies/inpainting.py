"""Looks for seams where what is kept of an image meets what is made of it: a table, and a sheet to look at.

python -m mmgen_jax.studies.inpainting --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=48

The rgb and the depth of held-out scenes get a hole, of whole cells of latents or across cells, which is filled with 0,
1 and 3 corrector steps. Of neighbouring pixels, one kept and one made, the mean square of the difference is divided by
that of the same pixels of the scenes: above 1 there is a seam. Beside it is the same of neighbours that are both made,
on either side of a border of cells and within one: below 1 what is made is softer than the scenes.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/shapes-tiny/seams.png", "File of the sheet.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Mapping

import numpy as np
from etils import epath

from mmgen_jax import settings
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import pictures
from mmgen_jax.studies.opening import Opened, into_file, opened, table
from mmgen_jax.system.console import say

KEPT = ("rgb", "depth")
CORRECTORS = (0, 1, 3)
HEADS = ("across the seam", "across cells", "within cells")
SCENES = 6  # rows of the sheet


def holes(size: int, factor: int) -> dict[str, np.ndarray]:
    """Name -> pixels that are kept, bool [size, size]: all but a square of whole cells, or but a disc across them."""
    cells, middle = size // factor, (size - 1) / 2
    first, last = factor * (cells // 4), factor * (cells - cells // 4)
    square = np.ones((size, size), bool)
    square[first:last, first:last] = False
    y, x = np.mgrid[:size, :size] - middle
    return {"a square of cells": square, "a disc": np.hypot(y, x) > size / 4 + factor / 4}


def energies(images: np.ndarray, kept: np.ndarray, factor: int) -> np.ndarray:
    """Mean squares of the differences of neighbours, for each of `HEADS`, of images float [n, H, W, ...]."""
    squares, groups = list[np.ndarray](), list[np.ndarray]()
    for axis in (0, 1):
        off = np.diff(images, axis=axis + 1)
        squares.append(np.square(off).reshape(len(images), *off.shape[1:3], -1).sum(-1).mean(0).ravel())
        one, other = (np.delete(kept, place, axis) for place in (-1, 0))
        border = np.arange(1, kept.shape[axis]) % factor == 0
        border, made = border[:, None] if axis == 0 else border, ~one & ~other
        groups.append(np.stack([one != other, made & border, made & ~border]).reshape(3, -1))
    square, group = np.concatenate(squares), np.concatenate(groups, 1)
    return (group * square).sum(1) / group.sum(1)


class Study:
    """A model, scenes, and what fills holes in them."""

    def __init__(self, begun: Opened):
        self.opened, self.factor = begun, begun.architecture.autoencoder.factor
        self.options = begun.chosen.sample.options().plain()
        self.holes = holes(begun.architecture.image_size, self.factor)

    def filled(self, m: str, kept: np.ndarray, corrector: int) -> np.ndarray:
        """Values [n, H, W(, 3)] of a modality of the scenes, of which a part is kept."""
        truth = self.opened.scenes[m]
        options = dataclasses.replace(self.options, corrector=corrector)
        return self.opened.model.draw(options, n=len(truth), given={m: truth}, keep={m: kept})[m]

    def row(self, m: str, kept: np.ndarray, made: np.ndarray) -> dict[str, float]:
        """Energies of what is made, as multiples of those of the scenes."""
        own, real = (energies(_numbers(x), kept, self.factor) for x in (made, self.opened.scenes[m]))
        return dict(zip(HEADS, map(float, own / real), strict=True))

    def sheet(self, made: Mapping[tuple[str, str, int], np.ndarray]) -> np.ndarray:
        """Picture uint8 [H, W, 3] of scenes, what is kept of them, and the same filled."""
        columns = dict[str, np.ndarray]()
        for hole, kept in self.holes.items():
            rgb = self.opened.scenes["rgb"][:SCENES]
            columns[hole] = np.where(kept[..., None], rgb, np.uint8(pictures.MUTED[0]))
            for (m, name, corrector), values in made.items():
                if name == hole and corrector in (0, 3):
                    picture = MODALITIES[m].picture(values[:SCENES], self.opened.facts)
                    columns[f"{m}, {corrector} steps{'' if name == next(iter(self.holes)) else ' '}"] = picture
        return pictures.sheet(columns, given=tuple(self.holes))


def _numbers(values: np.ndarray) -> np.ndarray:
    """Values as floats, 0 to 1."""
    return values / 255 if values.dtype == np.uint8 else values


def run(chosen: settings.Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[str, float]]:
    """Prints the table, writes the sheet, returns the rows. Raises UsageError as `opened` does."""
    study, rows, made = Study(opened(chosen, workdir, KEPT)), dict[str, dict[str, float]](), {}
    for m in KEPT:
        for hole, kept in study.holes.items():
            for corrector in CORRECTORS:
                made[m, hole, corrector] = study.filled(m, kept, corrector)
                rows[f"{m}, {hole}, {corrector} corrector steps"] = study.row(m, kept, made[m, hole, corrector])
    say(table("multiple of the scenes' energy", HEADS, rows))
    pictures.save_png(out, study.sheet(made))
    return rows


if __name__ == "__main__":
    command.run(into_file(run))
