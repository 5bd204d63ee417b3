"""Writes models of this package as checkpoint files that the official PyTorch code loads."""

from __future__ import annotations

import functools

import jax
import numpy as np
import optax
from etils import epath

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders, restore
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.official import names
from mmgen_jax.official.checkpoint import size_name
from mmgen_jax.system import files
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import tensors, torch_write
from mmgen_jax.training import history
from mmgen_jax.training.optimizer import make_optimizer
from mmgen_jax.training.state import TrainState, init_state

CHANNELS, VAE_FACTOR = 4, 8  # the official code knows no other latents

# One group of torch.optim.AdamW with the published values. The official code sets the learning rate itself.
GROUP = {
    "lr": 1e-4,
    "betas": (0.9, 0.999),
    "eps": 1e-8,
    "weight_decay": 0.0,
    "amsgrad": False,
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}


def arguments(model: Architecture) -> dict:
    """The entries of `args` that the official code reads."""
    count = len(model.modalities)
    return {
        "model": size_name(model.model),
        "resolution": model.latent_size * VAE_FACTOR,
        "num_classes": model.model.num_classes,
        "cfg_prob": 0.1,
        "encoder_depth": model.model.encoder_depth,
        "num_tasks": count,
        "is_mmcat_diff": count > 1,
        "use_decouple_task": True,
        "use_taskcond_emb": True,
        "use_decouple_latent": False,
        "qk_norm": False,
        "fused_attn": True,
        "path_type": model.path,
        "prediction": "v",
    }


def _train_state(folder: epath.Path, model: Architecture) -> TrainState | None:
    """Reads the newest train state of a workdir; None if it has only averaged weights."""
    if "opt_state" not in restore.entries(folder):
        return None
    # The structure of an optimizer's state does not depend on its settings, so default settings are good enough.
    base = settings.Settings()
    tx = make_optimizer(base.optim, base.train.steps)
    shapes = jax.eval_shape(functools.partial(init_state, model.init, tx), jax.random.key(0))
    where = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=where), shapes)
    return restore.restore(folder, abstract)[0]


def _official(params: Params, model: Architecture) -> dict[str, np.ndarray]:
    """Turns parameters into weights by official name. A model with one modality has one head there."""
    state = names.to_official(params, model.model, model.latent_size)
    if len(model.modalities) > 1:
        return state
    return {name.replace("lis_final_layer.0.", "final_layer."): value for name, value in state.items()}


def _adam(state: TrainState, model: Architecture) -> dict[int, dict[str, np.ndarray]]:
    """The entries of `opt.state` by the position of each weight. Position 0, the position embedding, has no entry."""
    adam = optax.tree_utils.tree_get(state.opt_state, "ScaleByAdamState")
    mean, square = (names.from_params(averages, model.model) for averages in (adam.mu, adam.nu))
    count = np.asarray(adam.count, np.float32)
    return {i + 1: {"step": count, "exp_avg": mean[name], "exp_avg_sq": square[name]} for i, name in enumerate(mean)}


def write(source: epath.PathLike, out: epath.PathLike) -> None:
    """Writes the model `source` (a workdir, a model folder or a bundled name) to a file that the official code loads.

    The file has the entries `model`, `ema`, `opt`, `args` and `steps`. If `source` has no train state, `model` has the
    averaged weights and `opt` a fresh optimizer.
    Raises UsageError for a model that the official code cannot express.
    """
    if files.path_of(out, "OUT").exists():
        raise UsageError(f"{out} exists; allowed: a new file")
    if epath.Path(out).suffix not in tensors.TORCH:
        raise UsageError(f"{out} has the suffix {epath.Path(out).suffix!r}; allowed: {', '.join(tensors.TORCH)}")
    files.check_place(out, "OUT", folder=False)
    folder = model_folders.locate(source)
    model = architectures.load(folder)
    for problem, there in (
        ("is preconditioned (model.precondition)", model.model.data_std is not None),
        (f"has blocks of model.recipe={model.model.recipe}", model.model.recipe != "published"),
        (f"has model.guided={model.model.guided}", bool(model.model.guided)),
        (f"has model.projector={model.model.projector}", model.model.projector != "mlp"),
        ("has no projector (model.feature_width = 0)", not model.model.feature_width),
        (f"has latents of {dict(model.model.modalities)}", {c for _, c in model.model.modalities} != {CHANNELS}),
    ):
        if there:
            raise UsageError(f"the model in {source} {problem}, which the official code does not know")
    if (optimizer := history.last(folder).get("optim.name", "adamw")) != "adamw":
        raise UsageError(
            f"the run in {source} has optim.name={optimizer}, whose state the official code does not know; "
            "convert its averaged weights, which mmgen_jax.export writes"
        )
    state = _train_state(folder, model)
    if state is None:
        ema = _official(model_folders.load(source)[1], model)
        entries, adam, step = {"model": ema, "ema": ema}, {}, 0
    else:
        entries = {"model": _official(state.params, model), "ema": _official(state.ema, model)}
        adam, step = _adam(state, model), int(state.step)
    group = GROUP | {"params": list(range(len(entries["ema"])))}
    opt = {"state": adam, "param_groups": [group]}
    torch_write.write(out, entries | {"opt": opt, "args": arguments(model), "steps": step})
