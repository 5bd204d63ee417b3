"""Renders the data set of shapes.

python -m mmgen_jax.data.shapes --data_dir=data/shapes32 --size=32 --train=120000 --test=4000
python -m mmgen_jax.data.shapes --data_dir=data/rich64 --scenes=rich --size=64 --train=120000 --test=4000
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "Folder that the data set is written under.")
    flags.DEFINE_string("scenes", "single", "What scenes are like: single (one main object) or rich (two to five).")
    flags.DEFINE_integer("size", 32, "Height and width of the tiles in pixels.")
    flags.DEFINE_integer("train", 20_000, "Scenes of the train split.")
    flags.DEFINE_integer("test", 2_000, "Scenes of the test split.")
    flags.DEFINE_integer("seed", 0, "Another seed gives other scenes.")
    flags.DEFINE_integer("workers", 1, "Number of processes that render.")
    flags.mark_flag_as_required("data_dir")
    command.parse()  # before the imports below, which take seconds

from mmgen_jax.data import building
from mmgen_jax.data.shapes.builder import Recipe, build


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    building.check_workers(values.workers)
    recipe = Recipe(values.size, values.train, values.test, values.seed)
    with building.command(values.data_dir, "--data_dir"):
        build(values.data_dir, recipe, values.workers, values.scenes)


if __name__ == "__main__":
    command.run(main)
