"""Where trained models lie: bundled names, model folders with `model.safetensors`, workdirs with checkpoints."""

from __future__ import annotations

from etils import epath

from mmgen_jax.checkpoints import restore, weights
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.system.errors import UsageError

ASSETS = epath.Path(__file__).parents[1] / "assets"
WEIGHTS_FILE = "model.safetensors"


def bundled() -> tuple[str, ...]:
    """Names of the models that come with the package."""
    return tuple(sorted(path.parent.name for path in ASSETS.glob(f"*/{WEIGHTS_FILE}")))


def locate(name: epath.PathLike) -> epath.Path:
    """Folder of a bundled model's name or of a path; raises UsageError if there is neither."""
    if str(name) in bundled():
        return ASSETS / str(name)
    path = epath.Path(name)
    if not path.is_dir():
        raise UsageError(f"no model at {str(name)!r}: no such folder; bundled: {', '.join(bundled()) or 'none'}")
    return path


def load(name: epath.PathLike, step: int | None = None) -> tuple[Architecture, Params]:
    """Architecture and (averaged) parameters of a model folder or, at `step` or the newest, of a workdir.

    Where a workdir also has a `model.safetensors`, its checkpoints count.
    Raises UsageError if there is no model, no weights, or no such step.
    """
    folder = locate(name)
    architecture = architectures.load(folder)
    if (folder / restore.FOLDER).exists() or step is not None:  # a workdir goes on; an export into it does not
        params = restore.restore_ema(folder, step)[0]
    else:
        params = weights.load_params(folder / WEIGHTS_FILE)
    weights.check_params(params, architecture, folder)
    return architecture, params
