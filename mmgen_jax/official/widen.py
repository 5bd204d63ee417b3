"""Turns weights of models with one modality (SiT, REPA), or with fewer modalities than wanted, into MMGen's.

State dicts map official names to arrays, both before and after. The network computes the same before and after.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from mmgen_jax.models.layers import TIME_FREQUENCIES
from mmgen_jax.official.names import PATCH, SOURCE, TASKS, shape_of
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import fit

State = Mapping[str, np.ndarray]

HEAD, HEADS = "final_layer.", "lis_final_layer."
TIME, FUSED = "t_embedder.mlp", "t_embedder.mlp_fused"
TIMES = 2049  # times in [0, 1] at which the time embedding is sampled to compress it
TIME_ERROR = 1e-5  # largest error of the compressed embedding, relative to its largest value
# REPA's old name of the blocks that follow the aligned tokens.
LATER_BLOCKS = re.compile(r"decoder_blocks\.(\d+)\.")


def has_one_modality(state: State) -> bool:
    """Whether these are the weights of a model with SiT's single output layer."""
    return f"{HEAD}linear.weight" in state


def from_one_modality(state: State, *, data_at_one: bool) -> dict[str, np.ndarray]:
    """Turns SiT's or REPA's state dict into that of an MMGen model with one modality that computes the same.

    Args:
      state: the weights of the model, by official names.
      data_at_one: whether t = 1 is data and the velocity points to it, as in SiT. In REPA and MMGen t = 1 is noise.

    SiT does not use the second half of its output channels (`learn_sigma`), which is dropped.
    Raises UsageError for missing or misshapen weights, and for a time embedding that cannot be expressed.
    """
    new = _renamed(state)
    width, channels, patch, _ = shape_of(new, f"{PATCH}.weight", 4)
    for name, ndim in ((f"{HEADS}0.linear.weight", 2), (f"{HEADS}0.linear.bias", 1)):
        outputs = shape_of(new, name, ndim)[0]
        if outputs not in (patch**2 * channels, 2 * patch**2 * channels):
            raise UsageError(f"{name} has {outputs} rows: must be {patch**2 * channels}, or twice as many")
        value = new[name].reshape(patch**2, outputs // patch**2, -1)[:, :channels]
        value = value.reshape(-1, *new[name].shape[1:])
        new[name] = -value if data_at_one else value
    if data_at_one:
        new[f"{TIME}.0.weight"] = _reversed_time(_part(new, f"{TIME}.0.weight", (width, 2 * TIME_FREQUENCIES)))
    if f"{FUSED}.0.weight" not in new:
        new |= _fused_time(new, width)
    new.setdefault(TASKS, np.zeros((2, width), np.float32))
    return new


def _renamed(state: State) -> dict[str, np.ndarray]:
    """Renames the single output layer to the first of several, and undoes REPA's old names of later blocks."""
    before = len({name.split(".")[1] for name in state if name.startswith("blocks.")})

    def rename(name: str) -> str:
        name = HEADS + "0." + name.removeprefix(HEAD) if name.startswith(HEAD) else name
        return LATER_BLOCKS.sub(lambda found: f"blocks.{before + int(found[1])}.", name)

    return {rename(name): state[name] for name in state}


def _part(state: State, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if shape_of(state, name, len(shape)) != shape:
        raise UsageError(f"{name} has shape {state[name].shape}: must be {shape}")
    return fit.finite(np.asarray(state[name], np.float64), name, SOURCE)


def _frequencies() -> np.ndarray:
    return np.exp(-np.log(10000) / TIME_FREQUENCIES * np.arange(TIME_FREQUENCIES))


def _reversed_time(weight: np.ndarray) -> np.ndarray:
    """Weights that compute from (cos wt, sin wt) what `weight` computes from the same features of 1 - t.

    cos w(1-t) = cos w cos wt + sin w sin wt and sin w(1-t) = sin w cos wt - cos w sin wt.
    """
    cosine, sine = np.cos(_frequencies()), np.sin(_frequencies())
    a, b = np.split(weight, 2, axis=1)
    return np.concatenate([a * cosine + b * sine, a * sine - b * cosine], axis=1).astype(np.float32)


def _fused_time(state: State, width: int) -> dict[str, np.ndarray]:
    """Rewrites SiT's embedding of one time as MMGen's: a first MLP to half the width, then a second MLP that fuses.

    SiT computes W2 h + b2 with h = silu(W1 f + b1) for features f of the time. MMGen's first MLP must squeeze this into
    width / 2 numbers. That loses nothing: over t in [0, 1], W2 h is a smooth curve that lies, to the last digit of
    float32, in a space of few dimensions. With an orthonormal basis Q [width, width / 2] of that space,

        first MLP:  each = (Q^T W2) h                          (the same W1 and b1 inside)
        second MLP: Q silu(each) - Q silu(-each) + b2 = Q each + b2 = W2 h + b2

    since silu(z) - silu(-z) = z makes the second MLP linear: its hidden layer holds (each, -each).
    """
    names = [f"{TIME}.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")]
    shapes = ((width, 2 * TIME_FREQUENCIES), (width,), (width, width), (width,))
    w1, b1, w2, b2 = (_part(state, name, shape) for name, shape in zip(names, shapes, strict=True))
    angles = np.linspace(0, 1, TIMES)[:, None] * _frequencies()
    hidden = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) @ w1.T + b1
    curve = (hidden / (1 + np.exp(np.minimum(-hidden, 700)))) @ w2.T
    # The right singular vectors of the curve, which are those of its QR decomposition's smaller triangular factor.
    basis = np.linalg.svd(np.linalg.qr(curve, mode="r"))[2][: width // 2]
    error = np.abs(curve - curve @ basis.T @ basis).max() / max(np.abs(curve).max(), 1e-30)
    if error > TIME_ERROR:
        raise UsageError(f"{names[2]}: the time embedding has more than {width // 2} dimensions (error {error:.1e})")
    half = np.eye(width // 2)
    new = {
        f"{TIME}.2.weight": basis @ w2,
        f"{TIME}.2.bias": np.zeros(width // 2),
        f"{FUSED}.0.weight": np.concatenate([half, -half]),
        f"{FUSED}.0.bias": np.zeros(width),
        f"{FUSED}.2.weight": np.concatenate([basis.T, -basis.T], axis=1),
        f"{FUSED}.2.bias": b2,
    }
    return {name: value.astype(np.float32) for name, value in new.items()}


def widen(state: State, names: Sequence[str], channels: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Adds modalities to a model. The outputs for the old ones stay the same, whatever the new inputs are.

    Args:
      state: all weights of an MMGen model, by official names.
      names: its modalities, in the order of its final layers.
      channels: latent channels of all modalities of the new model, in its order. The old modalities are among them.

    New input channels, times and tasks have zero weights. They learn from the first step on, as the values that these
    weights multiply are not zero. A new output layer gets the modulation of the first old one, for which the trunk was
    trained. Its linear layer is zero, which is the start of adaLN-Zero; the velocity of another modality would be a
    worse first guess.

    Raises UsageError if an old modality is not among the new ones or has other channels.
    """
    for name in names:
        if name not in channels:
            raise UsageError(f"the checkpoint has {', '.join(names)}; {name} must be among {', '.join(channels)}")
    width, inputs, patch, _ = state[f"{PATCH}.weight"].shape
    half = state[f"{FUSED}.0.weight"].shape[1] // len(names)
    if inputs != sum(channels[name] for name in names):
        expected = ", ".join(f"{name} {channels[name]}" for name in names)
        raise UsageError(f"{PATCH}.weight has {inputs} input channels: must be those of {expected}")
    wanted, sizes = list(channels), list(channels.values())
    old = [channels[name] for name in names]
    places = [wanted.index(name) for name in names]

    new = {name: value for name, value in state.items() if not name.startswith(HEADS)}
    new[f"{PATCH}.weight"] = _placed(state[f"{PATCH}.weight"], old, sizes, places)
    halves = [half] * len(names), [half] * len(wanted)
    new[f"{FUSED}.0.weight"] = _placed(state[f"{FUSED}.0.weight"], *halves, places)
    tasks = [1] * (1 + len(names)), [1] * (1 + len(wanted))
    new[TASKS] = _placed(state[TASKS].T, *tasks, [0, *(1 + place for place in places)]).T
    for i, name in enumerate(wanted):
        source = names.index(name) if name in names else 0
        for part in ("adaLN_modulation.1.weight", "adaLN_modulation.1.bias"):
            new[f"{HEADS}{i}.{part}"] = state[f"{HEADS}{source}.{part}"]
        rows = patch**2 * channels[name]
        for part, shape in (("linear.weight", (rows, width)), ("linear.bias", (rows,))):
            kept = state[f"{HEADS}{source}.{part}"] if name in names else np.zeros(shape, np.float32)
            new[f"{HEADS}{i}.{part}"] = kept
    return new


def _placed(value: np.ndarray, old: Sequence[int], new: Sequence[int], places: Sequence[int]) -> np.ndarray:
    """Cuts `value` along axis 1 into parts of sizes `old`; puts them at `places` among zero parts of sizes `new`."""
    target = np.zeros((value.shape[0], sum(new), *value.shape[2:]), np.float32)
    starts = np.cumsum([0, *new])
    for part, place in zip(np.split(np.asarray(value), np.cumsum(old)[:-1], axis=1), places, strict=True):
        target[:, starts[place] : starts[place + 1]] = part
    return target
