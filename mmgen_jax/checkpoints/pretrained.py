"""Model folders in the layout of the Hugging Face hub: written whole, and loaded from a folder or by a hub id.

A model folder is a repository of the hub as it is: `model.safetensors`, `model.json` (the architecture), perhaps
`autoencoder.safetensors`, and their checksums; `config.json`, by which the hub's tools know what a repository holds;
and the model card `README.md`.
"""

from __future__ import annotations

import contextlib
import json

from etils import epath

from mmgen_jax.checkpoints import model_card, model_folders, restore, weights
from mmgen_jax.frozen.autoencoders import arrays_file
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.system import files, sealed
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import one_of, require
from mmgen_jax.tensor_files import hub

CARD = "README.md"
FILES = (architectures.FILE, arrays_file.FILE, model_folders.WEIGHTS_FILE, hub.CONFIG, CARD, sealed.FILE)
DTYPES = ("float32", "float16")
_CONFIG = {"library_name": "mmgen_jax", "model_type": "mmgen", "architectures": ["MMGen"]}
_KINDS = ("_class_name", "model_type", "architectures")  # what diffusers and transformers call a model in config.json


def save(
    out: epath.PathLike,
    architecture: Architecture,
    params: Params,
    dtype: str = DTYPES[0],
    license: str = model_card.UNKNOWN,
    name: str = "folder",
) -> epath.Path:
    """Writes a model to a folder; returns the path of its weights.

    A new folder appears when it is whole. In one that holds the same model, each file is replaced whole, except for its
    model card, in which people write. `name` is what the folder was given as.

    Raises UsageError for a place that cannot be written, a workdir, and a folder that holds anything else.
    """
    files.check_place(out, name, folder=True)
    require("dtype", dtype, one_of(*DTYPES))
    require("license", license, model_card.LICENSE)
    files.check_files(out, FILES, name)
    out = epath.Path(out)
    if (out / restore.FOLDER).exists():
        raise UsageError(
            f"{name} {out} is a workdir; allowed: another folder, as this file would outlive its checkpoints"
        )
    if (out / architectures.FILE).exists():
        other = architectures.difference(architecture, architectures.load(out), "that one")
        if other:
            raise UsageError(f"{name} {out} already holds another model: {other}")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(
            f"{name} {out} exists and holds no model; allowed: a new folder, an empty one or one of this model"
        )
    with files.writing(name, out), contextlib.nullcontext(out) if out.exists() else files.replacing(out) as place:
        place.mkdir(parents=True, exist_ok=True)
        architecture.save(place)
        weights.save_params(place / model_folders.WEIGHTS_FILE, params, dtype)
        files.write(place / hub.CONFIG, (json.dumps(_CONFIG, indent=1) + "\n").encode())
        if not (place / CARD).exists():
            files.write(place / CARD, model_card.text(files.absolute(out).name, architecture, params, license).encode())
    return out / model_folders.WEIGHTS_FILE


def load(name: epath.PathLike) -> tuple[Architecture, Params]:
    """Loads what `save` wrote, by its path or by its hub id "org/name"; also all else that `model_folders.load` does.

    Raises UsageError for a name that is neither, for a folder of another library, and for damaged files.
    """
    known = str(name) in model_folders.bundled() or files.is_remote(files.path_of(name, "model"))
    folder = model_folders.locate(name if known else hub.resolve(name, FILES))
    config = hub.config(folder) or {}
    if not sealed.expects(folder / architectures.FILE):
        says = [f"{key} {config[key]!r}" for key in _KINDS if key in config]
        told = f"its {hub.CONFIG} says {', '.join(says)}" if says else f"{architectures.FILE} is missing"
        raise UsageError(f"{str(name)!r} is not a model of mmgen_jax: {told}")
    return model_folders.load(folder)
