"""Finds and loads trained models: bundled models by name, model folders with `model.safetensors`, and workdirs."""

from __future__ import annotations

from etils import epath

from mmgen_jax.checkpoints import restore, weights
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError

ASSETS = epath.Path(__file__).parents[1] / "assets"
WEIGHTS_FILE = "model.safetensors"


def bundled() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(path.name for path in ASSETS.iterdir() if (path / WEIGHTS_FILE).exists()))


def locate(name: epath.PathLike) -> epath.Path:
    """Folder of a model that is given by the name of a bundled model or by a path. Raises UsageError for neither."""
    if str(name) in bundled():
        return ASSETS / str(name)
    path = files.path_of(name, "model")
    if not path.is_dir():
        raise UsageError(f"no model at {str(name)!r}: no such folder; bundled: {', '.join(bundled()) or 'none'}")
    return path


def load(name: epath.PathLike, step: int | None = None) -> tuple[Architecture, Params]:
    """Loads the architecture and the averaged parameters of a model folder, a bundled model, or a workdir.

    Of a workdir, `step` names the checkpoint to read; None means the newest one. If a workdir has both checkpoints
    and a `model.safetensors`, the checkpoints are read.

    Raises UsageError if there is no model, or no weights, or no such step.
    """
    architecture, params, _ = load_step(name, step)
    return architecture, params


def load_step(name: epath.PathLike, step: int | None = None) -> tuple[Architecture, Params, int | None]:
    """Loads what `load` loads, and tells the step of the checkpoint that was read; None without checkpoints."""
    folder = locate(name)
    architecture, found = architectures.load(folder), None
    if (folder / restore.FOLDER).exists() or step is not None:  # an exported file in a workdir may be old
        params, found = restore.restore_ema(folder, step)
    else:
        params = weights.load_params(folder / WEIGHTS_FILE)
    weights.check_params(params, architecture, folder)
    return architecture, params, found
