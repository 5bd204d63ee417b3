"""Turns the dials of a condition, and measures how well what is made agrees with it.

python -m mmgen_jax.studies.dial --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=64

The rgb of held-out scenes is made from their depth alone, which is held at each of several times, and then has each of
several strengths. What the model reads from that rgb is compared with the depth that was given. Says of each dial
whether the error only rises, or falls, as it is turned. Writes given_times.png and strength.png.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/dial", "Folder of the sheets.")
    command.parse()  # before the imports below, which take seconds

from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from mmgen_jax import settings
from mmgen_jax.sampling.options import GivenTimes, Strengths
from mmgen_jax.show import pictures
from mmgen_jax.studies import composition
from mmgen_jax.studies.composition import SCENES, Study, Way, agreement
from mmgen_jax.studies.opening import into_folder
from mmgen_jax.system.console import say

CONDITION, SCORE = "depth", "depth/absrel"
TIMES = (0.005, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


def dials() -> dict[str, dict[float, Way]]:
    """Name of each dial -> its positions, and how they use the condition."""
    return {
        "given_times": {t: Way((CONDITION,), {"given_times": GivenTimes(**{CONDITION: t})}) for t in TIMES},
        "strength": {w: Way((CONDITION,), {"strength": Strengths(**{CONDITION: w})}) for w in STRENGTHS},
    }


def turned(study: Study, ways: Mapping[float, Way]) -> tuple[dict[float, float], np.ndarray]:
    """The error at each position of a dial, and a picture uint8 [H, W, 3] of the first scenes at each of them."""
    count = len(study.opened.scenes[CONDITION])
    errors, columns = dict[float, float](), study.opened.pictures((CONDITION,), SCENES)
    for position, way in ways.items():
        rgb, _ = study.rgb(way, count)
        errors[position] = agreement(study.opened, rgb)[SCORE]
        columns[f"{position:g}"] = rgb[:SCENES]
    return errors, pictures.sheet(columns, given=(CONDITION,))


def verdict(errors: Sequence[float]) -> str:
    """Whether errors only fall or only rise, and if not, by how much they go the other way at most."""
    steps = np.diff(errors)
    falls = errors[-1] < errors[0]
    against = float((steps if falls else -steps).max())
    name = "falls" if falls else "rises"
    if against <= 0:
        return f"{name} throughout"
    return f"{name}, but not throughout: {against:.4f} the other way at most"


def run(chosen: settings.Settings, workdir: str, out: epath.PathLike) -> dict[str, dict[float, float]]:
    """Prints a table for each dial, writes the sheets, returns the errors. Raises UsageError as `composition` does."""
    study, target, found = Study(chosen, workdir), epath.Path(out), {}
    target.mkdir(parents=True, exist_ok=True)
    for name, ways in dials().items():
        errors, sheet = turned(study, ways)
        say(f"| `{name}.{CONDITION}` | {composition.METRICS[SCORE]} |\n|---|---|")
        for position, error in errors.items():
            say(f"| {position:g} | {error:.4f} |")
        say(f"\nthe error {verdict(list(errors.values()))}\n")
        pictures.save_png(target / f"{name}.png", sheet)
        found[name] = errors
    return found


if __name__ == "__main__":
    command.run(into_folder(run, [f"{name}.png" for name in dials()]))
