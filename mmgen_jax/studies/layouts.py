"""Shows what each design choice of the TPU training step gains: compiles the step without it for the same topology.

python -m mmgen_jax.studies.layouts --config=imagenet256_xl2 --topology=v5e:4x4 [--only=attention,loop]

Each line takes minutes. Nothing is run; the figures are the compiler's, as python -m mmgen_jax.compile prints them.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_config()
    flags.DEFINE_string("topology", "v5e:4x4", "Kind and shape of TPU.")
    flags.DEFINE_list("only", [], "Parts of the names of the lines to compile; empty = all.")
    flags.DEFINE_string("json", "", "File to write all figures to, as JSON.")
    command.parse()  # before the imports below, which take seconds

import contextlib
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from unittest import mock

import jax.numpy as jnp
import optax

from mmgen_jax import settings
from mmgen_jax.compiler import examine
from mmgen_jax.compiler.topology import tpu_devices
from mmgen_jax.models import layers, layout
from mmgen_jax.parallel import compiler_options, sharding
from mmgen_jax.parallel.placement import Placement
from mmgen_jax.settings import Settings
from mmgen_jax.system import errors, files
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError


@dataclass(frozen=True)
class Undone:
    """One design choice undone.

    Attributes:
      values: section -> key -> value, of the settings that undo it.
      patched: makes a context in which the program is changed to undo it.
    """

    values: Mapping[str, Mapping[str, object]] = dataclasses.field(default_factory=dict)
    patched: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext


def _plain_layer_norm(x):
    """LayerNorm as written in textbooks, differentiated automatically."""
    y = x.astype(jnp.float32)
    y = y - y.mean(-1, keepdims=True)
    return (y / jnp.sqrt(jnp.square(y).mean(-1, keepdims=True) + layers.LN_EPS)).astype(x.dtype)


def _training(flags: dict[str, str]) -> contextlib.AbstractContextManager:
    """Context in which training uses these compiler flags, and the default share of fast memory."""
    return mock.patch.object(compiler_options, "TRAINING", compiler_options.Options(flags, {}))


def _annotated() -> contextlib.AbstractContextManager:
    """Context with FSDP by annotation: parameters and batch have shardings, and the compiler decides what is gathered.

    The compiler cannot split a Pallas kernel, so attention must be XLA's. Without the flag below it would cut every
    matrix multiplication into windows, with thousands of small transfers.
    """

    def gradients(self, local, params, example):
        def apply(params, *inputs):
            return self.architecture.apply(params, *inputs, Placement(self.platform))

        return local(apply, params, example)

    def norms(_, *trees):
        return jnp.stack([optax.global_norm(tree) for tree in trees])

    options = compiler_options.TRAINING
    flags = options.flags | {"xla_jf_spmd_threshold_for_windowed_einsum_mib": "100000"}
    patches = contextlib.ExitStack()
    patches.enter_context(mock.patch.object(layout.Layout, "gradients", gradients))
    patches.enter_context(mock.patch.object(layout.Layout, "norms", norms))
    patches.enter_context(
        mock.patch.object(compiler_options, "TRAINING", compiler_options.Options(flags, options.vmem))
    )
    return patches


# name of a line -> the design choice that it undoes
CHANGES: dict[str, Undone] = {
    "as configured": Undone(),
    "attention by XLA": Undone({"model": {"attention": "xla"}}),
    "attention by XLA, FSDP by annotation": Undone({"model": {"attention": "xla"}}, _annotated),
    "loop over blocks": Undone({"model": {"unroll": 1}}),
    "loop, products kept": Undone({"model": {"unroll": 1, "remat": "names"}}),
    "products kept": Undone({"model": {"remat": "names"}}),
    "automatic LayerNorm": Undone(patched=lambda: mock.patch.object(layers, "normalise", _plain_layer_norm)),
    "reduce-scatter": Undone(patched=lambda: mock.patch.object(layout, "_sum_and_cut", layout._reduce_scatter)),
    "kernels kept whole": Undone(
        patched=lambda: mock.patch.object(layout, "_gathered_again", lambda product, x, w: product(x, w))
    ),
    "default tiles": Undone(patched=lambda: _training(compiler_options.TRAINING.flags)),
    "default options": Undone(patched=lambda: _training({})),
    "data-parallel": Undone({"mesh": {"data": -1, "fsdp": 1}}),
    "bfloat16 moments": Undone({"optim": {"moment_dtype": "bfloat16"}}),
}


def measure(name: str, chosen: Settings, topology: str) -> dict:
    """Compiles the step with one choice undone, and returns its report."""
    undone = CHANGES[name]
    chosen = settings.check(chosen.changed(**undone.values))
    with undone.patched():
        sizes = dict(sharding.make_mesh(tpu_devices(topology), **vars(chosen.mesh)).shape)
        return examine.examined(chosen, "train", topology, sizes, exact=False)


def line(name: str, found: dict) -> str:
    """One row of the table: | name | GiB | ms computing | ms exposed | ms | share of peak |."""
    seconds = found["seconds"]
    times = " | ".join(f"{1e3 * seconds[part]:.1f}" for part in ("compute", "exposed_collectives", "total"))
    return f"| {name} | {found['memory']['peak'] / examine.GIB:.2f} | {times} | {found['share_of_peak']:.3f} |"


def main(argv: list[str]) -> None:
    del argv
    values = flags.FLAGS
    chosen = settings.parse(values.config)
    names = [name for name in CHANGES if not values.only or any(part in name for part in values.only)]
    if not names:
        raise UsageError(f"--only is {','.join(values.only)!r}; allowed: parts of {', '.join(CHANGES)}")
    if values.json:
        files.check_place(values.json, "--json", folder=False)
    found = {}
    for name in names:
        try:
            found[name] = measure(name, chosen, values.topology)
        except errors.RunError as error:
            say(f"| {name} | {error} |")
            continue
        say(line(name, found[name]))
        if values.json:
            files.write(values.json, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    command.run(main)
