"""Writes the newest averaged weights of a workdir as a self-contained model folder.

python -m mmgen_jax.export --config=configs/shapes_tiny.py --workdir=runs/a --out=models/a
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
    command.parse()  # before the imports below, which take seconds

import hashlib
from collections.abc import Sequence

import numpy as np
from etils import epath
from ml_collections import ConfigDict
from numpy.typing import DTypeLike

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders, restore, weights
from mmgen_jax.frozen.autoencoders import arrays_file
from mmgen_jax.models import architectures
from mmgen_jax.system import console, files, sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_config


def export(name: epath.PathLike, out: epath.PathLike, step: int | None = None, dtype: DTypeLike = np.float32) -> str:
    """Writes the model `name` (a workdir, folder or bundled name) to folder `out`; returns a line that says what.

    Raises UsageError if `out` already holds a model of another architecture.
    """
    files.check_place(out, "--out", folder=True)
    own = (architectures.FILE, arrays_file.FILE, model_folders.WEIGHTS_FILE, sealed.FILE)
    files.check_files(out, own, "--out")
    model, params = model_folders.load(name, step)
    out = epath.Path(out)
    if (out / restore.FOLDER).exists():
        raise UsageError(
            f"--out {out} is a workdir; allowed: another folder, as this file would outlive its checkpoints"
        )
    if (out / architectures.FILE).exists():
        other = architectures.difference(model, architectures.load(out), "that one")
        if other:
            raise UsageError(f"--out {out} already holds another model: {other}")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"--out {out} exists and holds no model; allowed: a new folder, an empty one or one of this model"
        )
    out.mkdir(parents=True, exist_ok=True)
    model.save(out)
    path = out / model_folders.WEIGHTS_FILE
    weights.save_params(path, params, dtype)
    data = path.read_bytes()
    return f"wrote {path}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}"


def run(config: ConfigDict, workdir: epath.PathLike, out: epath.PathLike, dtype: DTypeLike = np.float32) -> str:
    """Checks the command's inputs and exports the model; returns the line to print."""
    chosen = settings.parse(config)
    if not out:
        raise UsageError("--out is empty; it must be the folder to write")
    check_config(chosen, architectures.load(model_folders.locate(workdir)), workdir)
    return export(workdir, out, chosen.sample.step, dtype)


def main(argv: Sequence[str]) -> None:
    del argv
    console.say(run(flags.FLAGS.config, flags.FLAGS.workdir, flags.FLAGS.out, flags.FLAGS.dtype))


if __name__ == "__main__":
    command.run(main)
