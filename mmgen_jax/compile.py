"""Predicts memory and speed of a config on a TPU, with the real TPU compiler. No TPU is needed, and nothing is run.

python -m mmgen_jax.compile --config=imagenet256_xl2 --topology=v5e:4x4
python -m mmgen_jax.compile --config=imagenet256_xl2 --topology=v5e:2x4 --what=sample --json=sample.json
python -m mmgen_jax.compile --config=imagenet256_xl2 --topology=v6e:2x4 --search

Prints memory of a device against its HBM, flops, collectives, predicted time and share of peak. A model without a loop
over its blocks is compiled with 2 and with 4 of them, and every figure is continued to its depth; --exact compiles it
whole, which takes minutes. --search tries meshes and recommends one. How time is predicted: docs/tpu/performance.md
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("topology", None, "Kind and shape of TPU, as v5e:4x4.", required=True)
    flags.DEFINE_string("what", "train", "One of train, sample and encode.")
    flags.DEFINE_string("json", "", "File to write all figures to, as JSON.")
    flags.DEFINE_bool("exact", False, "Compile all blocks even if there is no loop over them.")
    flags.DEFINE_bool("search", False, "Try several meshes and recommend one.")
    command.parse()  # before the imports below, which take seconds

import json

from mmgen_jax import settings
from mmgen_jax.compiler import programs
from mmgen_jax.compiler.examine import examined, lines, search
from mmgen_jax.compiler.topology import tpu_devices
from mmgen_jax.parallel import sharding
from mmgen_jax.system import files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import choice


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    chosen, what, topology = (
        settings.parse(values.config),
        choice("--what", values.what, programs.LOWER),
        values.topology,
    )
    if values.json:
        files.check_place(values.json, "--json", folder=False)
    devices = len(tpu_devices(topology))
    if values.search:
        found = search(chosen, what, topology, values.exact)
    else:
        sizes = dict(sharding.make_mesh(tpu_devices(topology), **vars(chosen.mesh)).shape)
        found = [examined(chosen, what, topology, sizes, values.exact)]
    for one in found:
        say("\n".join(lines(one, what)))
    if values.search:
        best = " ".join(f"--config.mesh.{axis}={size}" for axis, size in found[0]["mesh"].items())
        say(f"recommended for {topology} ({devices} devices): {best}")
    if values.json:
        files.write(values.json, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    command.run(main)
