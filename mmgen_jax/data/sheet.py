"""Draws the first tiles of a data set side by side, to look at before training on them.

python -m mmgen_jax.data.sheet --data_dir=data/rich64 --out=sheet.png
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder of a data set of tiles.")
    flags.DEFINE_string("out", None, "File of the sheet, .png.")
    flags.DEFINE_string("split", "test", "Name of a split, or a part of it such as train[50:60].")
    flags.DEFINE_integer("rows", 9, "Largest number of tiles.", lower_bound=1, upper_bound=100)
    flags.mark_flags_as_required(["data_dir", "out"])
    command.parse()  # before the imports below, which take seconds

import numpy as np
from etils import epath

from mmgen_jax.data import tiles
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import pictures
from mmgen_jax.system import files
from mmgen_jax.system.console import say


def sheet(data_dir: epath.PathLike, split: str, rows: int) -> np.ndarray:
    """A picture uint8 [H, W, 3] with a row for each of the first tiles and a column for each of their modalities.

    A modality that one of these tiles lacks is grey there. Rows have the names of the classes.

    Raises:
      UsageError: there is no such data set or split.
      DamagedRecord: one of these tiles cannot be read.
    """
    source, facts, names = tiles.read_tiles(data_dir, split), tiles.read_facts(data_dir), tiles.class_names(data_dir)
    found = [tiles.decode_tile(source[i]) for i in range(min(rows, len(source)))]
    columns = {}
    for i, (name, m) in enumerate(MODALITIES.items()):
        there = np.array([tile["present"][i] for tile in found])
        if there.any():
            pixels = to_array(np.stack([tile[name] for tile in found]))
            shown = m.picture(m.value(pixels, facts), facts)
            columns[name] = np.where(there[:, None, None, None], pictures.reduced(shown), np.uint8(pictures.MUTED[0]))
    labels = [names[tile["class_id"]] if 0 <= tile["class_id"] < len(names) else "" for tile in found]
    return pictures.sheet(columns, names=labels)


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    files.check_place(values.out, "--out", folder=False)
    pictures.save_png(values.out, sheet(values.data_dir, values.split, values.rows))
    say(f"written: {values.out}")


if __name__ == "__main__":
    command.run(main)
