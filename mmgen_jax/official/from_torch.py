"""Converts checkpoint files of the official PyTorch code to model folders and workdirs of this package."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import optax
from etils import epath

from mmgen_jax import settings
from mmgen_jax.checkpoints import saver
from mmgen_jax.frozen.autoencoders import protocol
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.models.mmdit import MMDiTConfig
from mmgen_jax.official import checkpoint, names
from mmgen_jax.official.checkpoint import Checkpoint, State
from mmgen_jax.official.widen import from_one_modality, has_one_modality, widen
from mmgen_jax.settings import Optim, Settings
from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError, about, choice
from mmgen_jax.tensor_files.torch_file import Streamed
from mmgen_jax.training.optimizer import make_optimizer
from mmgen_jax.training.state import TrainState

CONVENTIONS = ("auto", "repa", "sit")
REPA_PATHS = ("linear", "cosine")  # its names of paths; SiT writes them otherwise
OPTIM = {  # name of a setting in `optim` -> name of the official argument
    "learning_rate": "learning_rate",
    "b1": "adam_beta1",
    "b2": "adam_beta2",
    "eps": "adam_epsilon",
    "weight_decay": "adam_weight_decay",
    "clip_norm": "max_grad_norm",
}


def mmgen_state(found: Checkpoint, convention: str) -> State:
    """Weights by MMGen's names. Those of a model with one modality become an MMGen model that computes the same.

    For these, `convention` says which time means data: "sit" (t = 1 is data), "repa" (t = 1 is noise), or "auto", which
    takes models with a projector for REPA's, and asks the run's arguments and the file's name about others.
    Raises UsageError if they do not tell, or tell of another objective.
    """
    choice("--convention", convention, CONVENTIONS)
    if "dit" in _words(checkpoint.argument(found, "model", str, "")):
        raise UsageError(f"{found.path} is a DiT by its args.model, which predicts noise; allowed: SiT, REPA, MMGen")
    if not has_one_modality(found.weights):
        return found.weights
    if convention == "auto":
        convention = _convention(found)
    with about(found.path):
        return from_one_modality(found.weights, data_at_one=convention == "sit")


def _words(name: str) -> list[str]:
    return re.split("[^a-z]+", name.lower())


def _convention(found: Checkpoint) -> str:
    path = checkpoint.argument(found, "path_type", str, "")
    words = _words(epath.Path(found.path).name)
    if any(name.startswith("projectors.") for name in found.weights) or path in REPA_PATHS:
        return "repa"
    if path or ("sit" in words and "dit" not in words):
        return "sit"
    raise UsageError(
        f"{found.path} does not tell what it was trained for, as the weights of SiT, REPA and DiT have the same names; "
        "give --convention=sit (t = 1 is data) or repa (t = 1 is noise); DiT, which predicts noise, cannot be converted"
    )


def model_config(state: State, found: Checkpoint, num_heads: int) -> MMDiTConfig:
    """Reads the network's config off its weights, and checks the name and shape of every weight against it."""
    depth = checkpoint.argument(found, "encoder_depth", int, 8)
    heads = checkpoint.heads(found, num_heads)
    with about(found.path):
        config = names.config_from_official(state, heads, encoder_depth=depth)
    if checkpoint.argument(found, "num_classes", int, config.num_classes) != config.num_classes:
        rows = config.num_classes + 1
        raise UsageError(f"{found.path}: {names.CLASSES} has {rows} rows; one per class and one for no class expected")
    with about(found.path):
        names.check(state, config)
        names.check_position(state, config.width)
    return config


def with_modalities(state: State, network: MMDiTConfig, channels: Mapping[str, int]) -> tuple[State, MMDiTConfig]:
    """Weights and config for the modalities in `channels`, name -> number of channels of its latents.

    As many as there are take their places one by one, as files do not name them; `widen` adds others.
    """
    wanted = tuple(channels)
    if len(wanted) == len(network.names):
        counts = (count for _, count in network.modalities)
        network = dataclasses.replace(network, modalities=tuple(zip(wanted, counts, strict=True)))
    if wanted != network.names:
        state = widen(state, network.names, channels)
        network = names.config_from_official(state, network.heads, wanted, encoder_depth=network.encoder_depth)
    return state, network


def recipe(model: Architecture, found: Checkpoint) -> Settings:
    """The settings of the run that wrote the checkpoint; those that the file does not have are the defaults."""
    default, m, kept = Settings(), model.model, model.modalities
    network = ("depth", "width", "heads", "patch", "mlp_ratio", "encoder_depth", "projector_width", "feature_width")
    objective: dict[str, object] = {"path": model.path}
    if len(kept) == 1:
        objective["mix"] = ((1.0, "none", 0.0, "all"),)  # one modality can neither be given nor be dropped
    optim = {
        ours: float(checkpoint.argument(found, theirs, int | float, getattr(default.optim, ours)))
        for ours, theirs in OPTIM.items()
    }
    return settings.check(
        default.changed(
            data={"modalities": tuple(kept), "image_size": model.image_size, "flip": False},
            autoencoder={"name": model.autoencoder.name, "factor": model.autoencoder.factor},
            model={key: getattr(m, key) for key in network},
            objective=objective,
            optim=optim,
            train={"batch": checkpoint.argument(found, "batch_size", int, default.train.batch)},
            sample={"solver": default.sample.solver if model.path == "linear" else "heun"},
        )
    )


def class_names(path: epath.PathLike, count: int) -> tuple[str, ...]:
    """Reads the names of classes from a file, one per line; without a file they are "0", "1", and so on.

    Raises UsageError unless the file has `count` different names.
    """
    if not path:
        return tuple(map(str, range(count)))
    found = tuple(line.strip() for line in reading.text(path).splitlines() if line.strip())
    if len(found) != count or len(set(found)) != count:
        raise UsageError(
            f"--classes {path} has {len(set(found))} different names on {len(found)} lines; needed: {count}"
        )
    return found


def train_state(found: Checkpoint, model: Architecture, optim: Optim, steps: int) -> TrainState:
    """Makes the train state from which training continues: parameters, their averages, and Adam's averages."""
    adam = checkpoint.adam(found)
    trees = {}
    for name, entry in (("params", "model"), ("ema", "ema")):
        if entry not in found.states:
            raise UsageError(f"{found.path} has no weights {entry!r}, which --optimizer needs")
        with about(f"{found.path}: {entry}"):
            trees[name] = names.from_official(Streamed(found.states[entry]), model.model)
    for name, moments in (("mu", adam.mean), ("nu", adam.square)):
        with about(f"{found.path}: opt.state"):
            trees[name] = names.to_params(Streamed(moments), model.model)
    tx = make_optimizer(optim, steps)
    abstract = jax.eval_shape(tx.init, trees["params"])
    count = np.asarray(adam.count, np.int32)
    opt_state = optax.tree_utils.tree_set(abstract, mu=trees["mu"], nu=trees["nu"], count=count)
    return TrainState(np.asarray(found.step, np.int32), trees["params"], trees["ema"], opt_state)


def _check_new(out: epath.PathLike) -> None:
    if not str(out):
        raise UsageError("OUT is empty; it must be a new folder, or with --to_torch a new file")
    if "://" in str(out):
        raise UsageError(f"{out} is not on this machine; convert to a folder here and copy it")
    path = epath.Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"{out} exists; allowed: a new folder or an empty one, or with --to_torch a new file")


def _write(out: epath.PathLike, found: Checkpoint, model: Architecture, ema: State | None) -> None:
    """Writes the folder with the weights `ema`, or without them with all that training continues from."""
    chosen = recipe(model, found)
    if ema is None:
        stored: object = train_state(found, model, chosen.optim, chosen.train.steps)
    else:
        with about(found.path):
            stored = {"ema": names.from_official(Streamed(ema), model.model)}
    meta = {"step": found.step, "samples": checkpoint.samples(found, chosen.train.batch)}
    with files.replacing(files.absolute(out)) as part:
        model.save(part)
        files.write(part / "config.json", chosen.to_json().encode())
        saver.write(part, found.step, stored, meta)


def convert(
    source: epath.PathLike,
    out: epath.PathLike,
    make_autoencoder: Callable[[tuple[str, ...]], protocol.Autoencoder],
    *,
    weights: str = "ema",
    num_heads: int = 0,
    modalities: Sequence[str] = (),
    convention: str = "auto",
    classes: epath.PathLike = "",
    optimizer: bool = False,
) -> Architecture:
    """Converts the file `source` to the folder `out` for `MMGen.load`, `sample` and `train.init_from`.

    Args:
      source: a training checkpoint, or weights with official names: a file, or a folder of one in several parts.
      out: a new folder.
      make_autoencoder: modalities -> the autoencoder to store with the model.
      weights: "ema" or "model", for a file that has both.
      num_heads: number of attention heads, for a file that does not tell it; 0 means not given.
      modalities: modalities of the new model; by default the first ones. Modalities that the file lacks are added in a
        way that keeps the outputs of the others.
      convention: time convention of files with one modality; see `mmgen_state`.
      classes: path of a file with the name of a class in each line, or "".
      optimizer: whether to also keep the trained weights and Adam's state, so that training can continue.

    Returns the architecture that was written. Raises UsageError for a file that cannot be converted; nothing is written
    then.
    """
    _check_new(out)
    files.check_path(out, "OUT")
    files.check_place(out, "OUT", folder=True)
    found = checkpoint.read(source, weights)
    state = mmgen_state(found, convention)
    network = model_config(state, found, num_heads)
    wanted = tuple(modalities) or network.names
    if list(wanted) != [name for name in NAMES if name in wanted]:
        raise UsageError(f"--modalities is {','.join(wanted)}; allowed: some of {','.join(NAMES)}, in this order")
    autoencoder = make_autoencoder(wanted)
    state, network = with_modalities(state, network, {name: autoencoder.channels[name] for name in wanted})
    if dict(network.modalities) != autoencoder.channels:
        raise UsageError(
            f"{source} has latents {dict(network.modalities)}; the autoencoder's are {autoencoder.channels}"
        )
    if optimizer and state is not found.weights:
        raise UsageError("--optimizer needs a checkpoint of MMGen with the modalities it has")
    if optimizer and weights != "ema":
        raise UsageError("--optimizer keeps both ema and model; leave --weights out")
    size = names.latent_size_from_official(state) * autoencoder.factor
    model = Architecture(
        model=network,
        autoencoder=autoencoder,
        path=checkpoint.flow_path(found),
        image_size=size,
        facts=Facts(class_names=class_names(classes, network.num_classes)),
    )
    _write(out, found, model, None if optimizer else state)
    return model
