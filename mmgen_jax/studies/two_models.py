"""Composes depth and regions that two models tell, which were trained without a common sample: agreement, and a sheet.

python -m mmgen_jax.studies.two_models --config=shapes_tiny --workdir=shapes-tiny \
  --first=runs/rgb_depth --second=runs/rgb_mask --config.evaluate.n=64

The first model knows rgb and depth, the second one rgb and regions (`configs/shapes_rgb_depth.py` and
`configs/shapes_rgb_mask.py`). Each way of using them makes the rgb of the same held-out scenes. What the model of
`--workdir` then predicts from that rgb is compared with what was given. The last row is the formula that compares what
the second model says with v_0 of the first one, see `sampling/others.py`.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("first", None, "Workdir of the model of rgb and depth.", required=True)
    flags.DEFINE_string("second", None, "Workdir of the model of rgb and regions.", required=True)
    flags.DEFINE_string("out", "docs/images/composition/two_models.png", "File of the sheet.")
    command.parse()  # before the imports below, which take seconds

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from mmgen_jax import settings
from mmgen_jax.api import MMGen
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.diffusion import keys
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.models.layout import Layout
from mmgen_jax.parallel import sharding
from mmgen_jax.sampling import composed, sample
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.probing import velocity_of
from mmgen_jax.show import pictures
from mmgen_jax.studies.composition import GIVEN, METRICS, SCENES, agreement
from mmgen_jax.studies.opening import Values, into_file, opened
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError

Model = tuple[Architecture, Params]


def load(name: str, path: str, modalities: tuple[str, ...]) -> Model:
    """A model. Raises UsageError unless it has just these modalities, as any other has seen depth beside regions."""
    model = model_folders.load(path)
    if model[0].modalities != modalities:
        found = ", ".join(model[0].modalities)
        raise UsageError(f"{name} {path} has {found}; it must be a model of {', '.join(modalities)}")
    return model


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two models, and how they make rgb of the conditions of scenes.

    Attributes:
      first: the model of rgb and depth.
      second: the model of rgb and regions.
      options: how samples are drawn.
      scenes: values of the scenes.
    """

    first: Model
    second: Model
    options: Options
    scenes: Values

    def rgb(self) -> dict[str, np.ndarray]:
        """Way -> rgb uint8 [n, H, W, 3]."""
        first, second, one = MMGen(*self.first), MMGen(*self.second), self.options
        both = first.joined({"mask": second})
        composed_ = dataclasses.replace(one, compose=True)
        corrected = dataclasses.replace(composed_, corrector=3)
        return {
            "neither, first model": self._drawn(first, (), one),
            "neither, second model": self._drawn(second, (), one),
            "depth alone, first model": self._drawn(first, ("depth",), one),
            "regions alone, second model": self._drawn(second, ("mask",), one),
            "composed": self._drawn(both, GIVEN, composed_),
            "composed, 3 corrector steps": self._drawn(both, GIVEN, corrected),
            "composed, all against v_0 of the first": self._against_the_first(first, second),
        }

    def _drawn(self, model: MMGen, given: tuple[str, ...], options: Options) -> np.ndarray:
        return model.draw(options, n=len(self.scenes["rgb"]), given={m: self.scenes[m] for m in given})["rgb"]

    def _against_the_first(self, first: MMGen, second: MMGen) -> np.ndarray:
        """The rgb by v_0 + (v_depth - v_0) + (v'_mask - v_0), whose last v_0 is not that of the model of v'."""
        count, own, key = len(self.scenes["rgb"]), self.options, keys.of_seed(self.options.seed, "two models")
        shapes = second.architecture.latent_shapes(count) | first.architecture.latent_shapes(count)
        noise = Latents((m, jax.random.normal(keys.stream(key, m), shape)) for m, shape in shapes.items())

        def of(model: Model, given: Mapping[str, jax.Array]) -> VelocityFn:
            one = sharding.make_mesh(jax.devices()[:1])  # which splits any number of samples
            clean = {m: np.asarray(z) for m, z in given.items()}
            nothing = np.full(count, model[0].null_class)
            return velocity_of(Layout(model[0], one), model[1], nothing, noise, clean, own.given_time)

        depth, mask = first.encode({"depth": self.scenes["depth"]}), second.encode({"mask": self.scenes["mask"]})
        conditions = {"depth": of(self.first, depth), "mask": of(self.second, mask)}
        field = composed(of(self.first, {}), conditions, (1.0, 1.0))
        run = jax.jit(lambda z: sample(field, Latents(rgb=z), key=key, solver=own.solver, steps=own.steps))
        return first.decode({"rgb": jnp.asarray(np.asarray(run(noise["rgb"])["rgb"]))})["rgb"]


def run(chosen: settings.Settings, judge: str, pair: tuple[str, str], out: epath.PathLike) -> dict[str, dict]:
    """Prints the table, writes the sheet, returns the rows. Raises UsageError for models of other modalities."""
    first, second = load("--first", pair[0], ("rgb", "depth")), load("--second", pair[1], ("rgb", "mask"))
    seen = opened(chosen, judge, ("rgb", *GIVEN))
    options = dataclasses.replace(chosen.sample.options().plain(), wanted="rgb")
    made, rows = Pair(first, second, options, seen.scenes).rgb(), {}
    say(f"| rgb from | {' | '.join(METRICS.values())} |\n|---|---|---|")
    for name, rgb in ({"the scenes themselves": seen.scenes["rgb"]} | made).items():
        rows[name] = agreement(seen, rgb)
        say(f"| {name} | {' | '.join(f'{rows[name][key]:.4f}' for key in METRICS)} |")
    columns = seen.pictures(GIVEN, SCENES) | {"rgb of the scene": seen.scenes["rgb"][:SCENES]}
    columns |= {name: rgb[:SCENES] for name, rgb in made.items()}
    pictures.save_png(out, pictures.sheet(columns, given=GIVEN))
    return rows


if __name__ == "__main__":
    command.run(
        into_file(lambda chosen, workdir, out: run(chosen, workdir, (flags.FLAGS.first, flags.FLAGS.second), out))
    )
