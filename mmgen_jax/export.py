"""Writes the newest averaged weights of a workdir as a self-contained model folder.

python -m mmgen_jax.export --config=shapes_tiny --workdir=runs/a --out=models/a
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "", "Folder to write the model to.")
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "float16"], "Type of the stored weights; float16 halves the file."
    )
    flags.DEFINE_string(
        "license", "unknown", "License of the weights in the model card, as the hub writes it: apache-2.0."
    )
    command.parse()  # before the imports below, which take seconds

import hashlib
from collections.abc import Sequence

from etils import epath
from ml_collections import ConfigDict

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_card, model_folders, pretrained
from mmgen_jax.models import architectures
from mmgen_jax.system import console
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_config


def export(
    name: epath.PathLike,
    out: epath.PathLike,
    step: int | None = None,
    dtype: str = pretrained.DTYPES[0],
    license: str = model_card.UNKNOWN,
) -> str:
    """Writes the model `name` (a workdir, folder or bundled name) to folder `out`; returns a line that says what.

    Raises UsageError as `pretrained.save` does.
    """
    path = pretrained.save(out, *model_folders.load(name, step), dtype, license, "--out")
    data = path.read_bytes()
    return f"wrote {path}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def run(
    config: ConfigDict,
    workdir: epath.PathLike,
    out: epath.PathLike,
    dtype: str = pretrained.DTYPES[0],
    license: str = model_card.UNKNOWN,
) -> str:
    """Checks the command's inputs and exports the model; returns the line to print."""
    chosen = settings.parse(config)
    if not out:
        raise UsageError("--out is empty; it must be the folder to write")
    check_config(chosen, architectures.load(model_folders.locate(workdir)), workdir)
    return export(workdir, out, chosen.sample.step, dtype, license)


def main(argv: Sequence[str]) -> None:
    del argv
    console.say(run(flags.FLAGS.config, flags.FLAGS.workdir, flags.FLAGS.out, flags.FLAGS.dtype, flags.FLAGS.license))


if __name__ == "__main__":
    command.run(main)
