"""Guides scenes by a few points of depth, and by the colour of a region: errors, calls, and a sheet to look at.

python -m mmgen_jax.studies.guides --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=32

Points of the true depth of held-out scenes guide what is made of nothing, and of the rgb of the scenes; without a scale
they are 1 / metres. Errors are those of metres, without any fit, at the points and elsewhere. The mean rgb of a square
in the middle is guided to red; its error is the mean absolute one of the three channels. `calls` are evaluations of the
network for each sample, and a gradient through it counts as two more.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/guides.png", "File of the sheet.")
    flags.DEFINE_integer("points", 20, "Points of depth in each scene.", lower_bound=1)
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath

from mmgen_jax import settings
from mmgen_jax.modalities.geometry import relative_to_depth, to_inverse_depth
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling import guides
from mmgen_jax.sampling.training_free import DECODER, NETWORK
from mmgen_jax.show import pictures
from mmgen_jax.studies.composition import calls
from mmgen_jax.studies.opening import Opened, into_file, opened
from mmgen_jax.system.arrays import AnyArray
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

RED = (0.9, 0.15, 0.15)
SCENES = 5  # number of rows of the sheet
UNSCALED, BEST = "without a scale, through the network", "through the network"
WAYS: dict[str, dict[str, object]] = {
    "no guide": {},
    "through the decoder": {"guide_through": DECODER},
    "through the network": {"guide_through": NETWORK},
    "through the network, 2 corrector steps": {"guide_through": NETWORK, "corrector": 2},
}
Values = Mapping[str, np.ndarray]


def chosen_points(depth: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x, y and depth [n, count, 3] at random pixels of depth [n, H, W], and bool [n, H, W] where they are."""
    n, height, width = depth.shape
    rng = np.random.default_rng(seed)
    places = np.stack([rng.permutation(height * width)[:count] for _ in range(n)])
    there = np.zeros((n, height * width), bool)
    np.put_along_axis(there, places, True, 1)
    values = np.take_along_axis(depth.reshape(n, -1), places, 1)
    return np.stack([places % width, places // width, values], -1), there.reshape(depth.shape)


def errors(made: np.ndarray, truth: np.ndarray, there: np.ndarray, depth_range: Sequence[float]) -> tuple[float, float]:
    """Mean of |z - truth| / truth in metres, of relative inverse depths [n, H, W], at the points and elsewhere."""
    z, true = (relative_to_depth(x, depth_range) for x in (made, truth))
    off = np.abs(z - true) / true
    return float(off[there].mean()), float(off[~there].mean())


def square(size: int) -> np.ndarray:
    """Bool [size, size], True in the middle."""
    inside = np.zeros((size, size), bool)
    inside[size // 4 : -size // 4, size // 4 : -size // 4] = True
    return inside


class Study:
    """A model, the scenes that guide it, and what is made of them."""

    def __init__(self, opened: Opened, depth_range: Sequence[float], points: int):
        self.opened, self._range = opened, depth_range
        self.options = opened.chosen.sample.options().plain()
        self.rows, self.there = chosen_points(opened.scenes["depth"], points, opened.chosen.seed)
        self.inside = square(opened.architecture.image_size)
        self.count = len(self.there)

    def made(self, way: Mapping[str, object], guide: object, given: Sequence[str] = ()) -> tuple[Values, int]:
        """What a way makes of the scenes, and its calls."""
        options = dataclasses.replace(self.options, **way)  # type: ignore[arg-type]
        found = self.opened.model.draw(
            options, n=self.count, given={m: self.opened.scenes[m] for m in given}, guide=guide if way else None
        )
        gradients = 2 if way.get("guide_through") == NETWORK else 0
        return found, (1 + gradients) * calls(options, given, self.opened.architecture.modalities)

    def depths(self, given: Sequence[str]) -> dict[str, tuple[Values, int]]:
        """What each way makes of the points, and of what is given."""
        guide, metres = guides.points("depth", self.rows), self.rows.copy()
        metres[..., 2] = to_inverse_depth(self.rows[..., 2], self._range)
        found = {name: self.made(way, guide, given) for name, way in WAYS.items()}
        return found | {UNSCALED: self.made(WAYS[BEST], guides.unscaled("depth", metres), given)}

    def colours(self) -> dict[str, tuple[Values, int]]:
        """What each way makes of the colour of the square."""
        guide = guides.region("rgb", self.inside, RED)
        return {name: self.made(way, guide) for name, way in WAYS.items()}

    def off_red(self, rgb: AnyArray) -> float:
        """Mean absolute error of the mean colours of the square."""
        means = np.asarray(rgb)[:, self.inside].mean(1) / 255
        return float(np.abs(means - RED).mean())

    def sheet(self, depths: Mapping[str, tuple[Values, int]], colours: Mapping[str, tuple[Values, int]]) -> np.ndarray:
        """Picture uint8 [H, W, 3]: points, samples without and with them, and samples without and with the colour."""
        facts, picture = self.opened.facts, MODALITIES["depth"].picture
        truth = self.opened.pictures(("depth",), SCENES)["depth"]
        seen = np.where(self.there[:SCENES, ..., None], truth, 0)
        columns = {"points": seen}
        for name, way in (("without", "no guide"), ("guided", BEST)):
            columns[f"depth {name}"] = picture(depths[way][0]["depth"], facts)
            columns[f"rgb {name}"] = depths[way][0]["rgb"]
        columns["true depth"] = truth
        columns["no colour"], columns["red in the middle"] = colours["no guide"][0]["rgb"], colours[BEST][0]["rgb"]
        return pictures.sheet({name: x[:SCENES] for name, x in columns.items()}, given=("points",))


def run(chosen: settings.Settings, workdir: str, out: epath.PathLike, points: int = 20) -> list[tuple[object, ...]]:
    """Prints the tables, writes the sheet, returns the rows. Raises UsageError for data without a range of depth."""
    begun = opened(chosen, workdir)
    names, depth_range = begun.architecture.modalities, begun.facts.depth_range
    if depth_range is None or not {"rgb", "depth"} <= set(names):
        raise UsageError(f"this study needs rgb and depth in metres; the model has {', '.join(names)}")
    study, rows = Study(begun, depth_range, points), list[tuple[object, ...]]()
    say(
        f"| given | {points} points of depth | calls | AbsRel at the points | AbsRel elsewhere |\n|---|---|---|---|---|"
    )
    found = {}
    for given in ((), ("rgb",)):
        found[given] = study.depths(given)
        for name, (made, count) in found[given].items():
            at, elsewhere = errors(made["depth"], study.opened.scenes["depth"], study.there, depth_range)
            rows.append((given, name, count, at, elsewhere))
            say(f"| {' + '.join(given) or 'nothing'} | {name} | {count} | {at:.4f} | {elsewhere:.4f} |")
    say("\n| red in the middle | calls | error of the colour |\n|---|---|---|")
    colours = study.colours()
    for name, (made, count) in colours.items():
        rows.append((name, count, study.off_red(made["rgb"])))
        say(f"| {name} | {count} | {rows[-1][-1]:.4f} |")
    pictures.save_png(out, study.sheet(found[()], colours))
    return rows


if __name__ == "__main__":
    command.run(into_file(lambda chosen, workdir, out: run(chosen, workdir, out, flags.FLAGS.points)))
