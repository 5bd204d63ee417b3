"""Shows what each modality tells of each other one: a table in bits, and maps of where the information lies.

python -m mmgen_jax.studies.information --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=8
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_integer("draws", 16, "Draws of noise for each scene and pair.", lower_bound=2)
    flags.DEFINE_string("out", "docs/images/information.png", "File of the maps.")
    command.parse()  # before the imports below, which take seconds

import itertools
import math

import numpy as np

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.data import held_out
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling.information import Information
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.studies.opening import opened
from mmgen_jax.system import files
from mmgen_jax.system.console import say

SHOWN = 6  # scenes in the picture
Values = dict[str, np.ndarray]


def study(chosen: Settings, model: MMGen, draws: int) -> tuple[Values, dict[tuple[str, str], Information]]:
    """Values of held-out scenes, and (given, wanted) -> what one modality tells of another, all else ignored."""
    data, a = chosen.data, model.architecture
    reader = open_split(data.dir, data.test_split, a.modalities, a.image_size)
    values = held_out.values(reader, range(min(chosen.evaluate.n, len(reader))), a.facts)
    batch = chosen.evaluate.batch
    found = {
        (given, wanted): model.information({wanted: values[wanted]}, {given: values[given]}, draws, batch=batch)
        for given, wanted in itertools.permutations(values, 2)
    }
    return values, found


def table(found: dict[tuple[str, str], Information]) -> str:
    """Markdown: a row for what is given, a column for what it tells of; mean bits of a scene, and standard errors."""
    names = list(dict.fromkeys(given for given, _ in found))
    lines = ["| given | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for given in names:
        cells = []
        for wanted in names:
            nats = found[given, wanted].nats if given != wanted else np.zeros(0)
            spread = nats.std(ddof=1) / math.sqrt(len(nats)) if len(nats) > 1 else math.nan
            cells.append(f"{nats.mean() / math.log(2):.0f} ± {spread / math.log(2):.0f}" if len(nats) else "-")
        lines.append(f"| {given} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(values: Values, found: dict[tuple[str, str], Information], model: MMGen) -> np.ndarray:
    """Scenes and maps, uint8 [H, W, 3]: what rgb tells of the others, and what they tell of rgb."""
    facts = model.architecture.facts
    columns = {m: MODALITIES[m].picture(x[:SHOWN], facts) for m, x in values.items()}
    for given, wanted in found:
        if "rgb" in (given, wanted):
            maps = found[given, wanted].pictures()[wanted][:SHOWN]
            scale = model.architecture.image_size // maps.shape[1]
            columns[f"{given} of {wanted}"] = pictures.enlarge(maps, scale)
    return pictures.sheet(columns)


def main(argv: list[str]) -> None:
    del argv
    v = flags.FLAGS
    files.check_place(v.out, "--out", folder=False)
    chosen = settings.parse(v.config)
    model = opened(chosen, v.workdir).model
    values, found = study(chosen, model, v.draws)
    say(table(found))
    pictures.save_png(v.out, picture(values, found, model))
    say(f"look at {v.out}")


if __name__ == "__main__":
    command.run(main)
