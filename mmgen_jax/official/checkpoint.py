"""Reads checkpoint files of the official PyTorch code: weights, Adam's averages, and settings."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from mmgen_jax.models.mmdit import SIZES, MMDiTConfig, parse_size
from mmgen_jax.official import names
from mmgen_jax.system import files, reading
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.tensor_files import hub, states, tensors
from mmgen_jax.tensor_files.torch_pickle import Unknown

DIGESTS = {  # sha256 of the released files
    "0600000.pt": "7ea94acea622134dc2f94b704b7d657f34861d6ac4450cb341e9c1bfb280877e",
    "0620000.pt": "ab4c9423ed55ad0b845815dcf59d68d5e12265b846682065c858fc67f39be0ba",
}
CHUNK = 1 << 24
PATHS = {"linear": "linear", "cosine": "cosine", "Linear": "linear", "GVP": "cosine"}  # the last two are SiT's names
PREDICTIONS = ("v", "velocity")
PREFIX = "SiT-"  # the names of model sizes begin with it

State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """A training checkpoint of the official code, or a file that has only weights.

    Attributes:
      path: the file.
      weights: official name -> array, of the weights that were asked for.
      args: arguments of the training run; empty if the file does not have them.
      step: number of finished optimizer steps.
      states: entry of the file -> the weights in it, by official names; "" is the file itself.
      optimizer: the entry "opt"; None if there is none.
    """

    path: str
    weights: State
    args: Mapping
    step: int
    states: Mapping[str, State]
    optimizer: object = None


@dataclass(frozen=True)
class Adam:
    """AdamW's averages of gradients and of their squares, by official name, after `count` steps."""

    mean: State
    square: State
    count: int


def verify(path: epath.PathLike, digest: str) -> None:
    """Raises UsageError unless the file's sha256 is `digest`; "auto" means that of the released file with its name."""
    path = files.here(path)
    if digest == "auto":
        digest = DIGESTS[choice("with --sha256=auto the name of the file", path.name, DIGESTS)]
    if len(digest) != 64 or set(digest.lower()) - set("0123456789abcdef"):
        raise UsageError(f"--sha256 is {digest!r}; allowed: auto, or 64 hexadecimal digits")
    path = reading.regular(path)
    found, progress = hashlib.sha256(), Progress(f"sha256 of {path.name}", path.stat().length / 1e9, "GB")
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            found.update(chunk)
            progress(len(chunk) / 1e9)
    if found.hexdigest() != digest.lower():
        raise UsageError(f"{path} has sha256 {found.hexdigest()}; it must be {digest.lower()}: fetch the file again")
    say(f"sha256 of {path} is as it must be")


def read(path: epath.PathLike, which: str = "ema") -> Checkpoint:
    """Reads a training checkpoint with its weights `which` ("ema" or "model"), or a file that has only weights.

    `path` is a file, the index of several, or a folder that holds either. Raises UsageError for what cannot be read or
    does not have these weights.
    """
    file = hub.weights_file(files.here(path))
    value = tensors.read(file)
    networks = states.find(value, names.ANCHORS, file)
    chosen = _chosen(networks, which, file)
    entries = value if isinstance(value, dict) else {}
    step = _number(entries.get("steps", 0))
    if step is None:
        raise UsageError(f"{file}: its entry steps is not an integer of at least 0")
    found = {network.entry: network.whole for network in networks}
    return Checkpoint(
        str(file), chosen.whole, _arguments(entries.get("args", {}), file), step, found, entries.get("opt")
    )


def _chosen(networks: Sequence[states.Network], which: str, file: object) -> states.Network:
    """The network that is, or is not, an average, as `which` says; the only one, if its entry tells nothing."""
    wanted = [network for network in networks if network.averaged == (which == "ema")]
    if not wanted and (which == "model" or networks[0].entry == "model"):
        entries = ", ".join(sorted({network.entry for network in networks}))
        raise UsageError(f"{file} has no weights {which!r}; it has: {entries}, which --weights can choose")
    return states.only(wanted or networks, file)


def _arguments(stored: object, file: object) -> Mapping:
    if isinstance(stored, Unknown):
        say(f"{file}: its entry args is a {stored.name}, which is not read; the published recipe's are assumed")
        return {}
    if not isinstance(stored, dict):
        raise UsageError(f"{file}: its entry args is neither a dict nor a Namespace")
    return stored


def _number(value: object) -> int | None:
    """A count, also one that is stored as a tensor or a float; None for anything else."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value < 2**31 else None


def argument(checkpoint: Checkpoint, name: str, kind: type | types.UnionType, default: Any) -> Any:
    """An entry of the run's arguments, or `default`. Raises UsageError if it is not of the type `kind`."""
    value = checkpoint.args.get(name, default)
    if value is default or (isinstance(value, kind) and not isinstance(value, bool)):
        return value
    raise UsageError(f"{checkpoint.path}: args.{name} is not of type {getattr(kind, '__name__', kind)}")


def heads(checkpoint: Checkpoint, given: int) -> int:
    """Number of attention heads: that of the size that the file names, or else `given` (0 means not given)."""
    name = argument(checkpoint, "model", str, "")
    size = name.removeprefix(PREFIX)
    stored = parse_size(size)["heads"] if size.partition("/")[0] in SIZES else 0
    if stored and given and stored != given:
        raise UsageError(f"--num_heads is {given}; {name} has {stored}")
    if not stored and not given:
        raise UsageError(f"{checkpoint.path} does not tell the number of attention heads; give it as --num_heads")
    return stored or given


def size_name(config: MMDiTConfig) -> str:
    """The official name of a model's size, such as "SiT-XL/2", or "custom"."""
    for size, fields in SIZES.items():
        if all(getattr(config, key) == fields[key] for key in ("depth", "width", "heads")) and config.mlp_ratio == 4:
            return f"{PREFIX}{size}/{config.patch}"
    return "custom"


def flow_path(checkpoint: Checkpoint) -> str:
    """This package's name of the path. Raises UsageError for a path or a kind of prediction that it does not have."""
    prediction = argument(checkpoint, "prediction", str, PREDICTIONS[0])
    choice(f"{checkpoint.path}: args.prediction", prediction, PREDICTIONS)
    return PATHS[choice(f"{checkpoint.path}: args.path_type", argument(checkpoint, "path_type", str, "linear"), PATHS)]


def samples(checkpoint: Checkpoint, batch: int) -> int:
    """Number of samples that the run has used."""
    parts = argument(checkpoint, "gradient_accumulation_steps", int, 1)
    return checkpoint.step * argument(checkpoint, "batch_size", int, batch) * parts


def adam(checkpoint: Checkpoint) -> Adam:
    """The optimizer's state, which the file stores by the position of each weight in the model.

    Raises UsageError if there is none, or if it lacks a weight.
    """
    path, stored, ordered = checkpoint.path, checkpoint.optimizer, list(checkpoint.states.get("model", {}))
    averages = stored.get("state") if isinstance(stored, dict) else None
    if not isinstance(averages, dict) or not averages:
        raise UsageError(f"{path} has no optimizer state (opt.state); convert it without --optimizer")
    if not all(type(i) is int and 0 <= i < len(ordered) for i in averages):
        raise UsageError(f"{path}: opt.state has entries that are not positions of the {len(ordered)} weights of model")
    mean, square, steps = {}, {}, []
    for i, state in averages.items():
        if not isinstance(state, dict) or not states.is_state({k: state.get(k) for k in ("exp_avg", "exp_avg_sq")}):
            raise UsageError(f"{path}: opt.state of {ordered[i]} is not AdamW's: exp_avg and exp_avg_sq")
        mean[ordered[i]], square[ordered[i]] = state["exp_avg"], state["exp_avg_sq"]
        step = _number(state.get("step", 0))
        if step is None:
            raise UsageError(f"{path}: opt.state of {ordered[i]} has a step that is not an integer of at least 0")
        steps.append(step)
    # The count of a head is lower if no sample of a batch supervised its modality. This matters only in the first few
    # hundred steps, so all weights get one count.
    return Adam(mean, square, max(steps))
