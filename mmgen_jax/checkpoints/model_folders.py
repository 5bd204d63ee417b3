"""Where trained models lie: bundled names, model folders with `model.safetensors`, workdirs with checkpoints."""

from __future__ import annotations

from etils import epath
from ml_collections import ConfigDict

from mmgen_jax.checkpoints import restore as checkpoint
from mmgen_jax.checkpoints import weights
from mmgen_jax.models import architecture as architectures
from mmgen_jax.models.architecture import Architecture, Params
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
    if (folder / checkpoint.FOLDER).exists() or step is not None:  # a workdir goes on; an export into it does not
        params = checkpoint.restore_ema(folder, step)[0]
    else:
        params = weights.load_params(folder / WEIGHTS_FILE)
    weights.check_params(params, architecture, folder)
    return architecture, params


def check_latents(config: ConfigDict, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting of the latents in which a config and a stored architecture differ.

    An autoencoder once fitted is kept, so that these settings would otherwise have no effect.
    """
    facts = {"data.modalities": (config.data.modalities, found.modalities)}
    for name, stored in found.autoencoder.options.items():
        facts[f"autoencoder.{name}"] = (getattr(config.autoencoder, name), stored)
    for key, (wanted, stored) in facts.items():
        if wanted != stored:
            raise UsageError(f"config key {key} is {wanted!r}; the model in {where} has {stored!r}")


def check_config(config: ConfigDict, found: Architecture, where: object) -> None:
    """Raises UsageError naming the first setting of the model in which a config and a stored architecture differ."""
    check_latents(config, found, where)
    facts = (found.autoencoder, found.class_names, found.palette, found.regions)
    other = architectures.difference(architectures.from_config(config, *facts), found)
    if other:
        raise UsageError(f"config key {other.replace('the workdir', f'the model in {where}')}")
