"""The golden model and arrays (see golden/README.md), in this package's layout."""

from __future__ import annotations

import functools
from collections import OrderedDict
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mmgen_jax.models.mmdit import MMDiT, MMDiTConfig
from mmgen_jax.official.names import config_from_official, from_official

FOLDER = Path(__file__).parent / "golden"
NAMES = ("rgb", "depth", "normal", "mask")


@functools.cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "mmgen_tiny.npz") as stored:
        return {name: stored[name] for name in stored.files}


def weights() -> dict[str, np.ndarray]:
    return {name[2:]: value for name, value in arrays().items() if name.startswith("w/")}


def config() -> MMDiTConfig:
    return config_from_official(weights(), num_heads=4, encoder_depth=2)


@functools.cache
def model() -> MMDiT:
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: MMDiT(config(), rngs=nnx.Rngs(0))))
    return nnx.merge(graphdef, from_official(weights(), config()))


def split(value: np.ndarray) -> OrderedDict[str, jnp.ndarray]:
    """Splits arrays [..., 16, H, W] into one [..., H, W, 4] for each modality."""
    parts = np.split(np.moveaxis(value, -3, -1), len(NAMES), -1)
    return OrderedDict((name, jnp.asarray(part, jnp.float32)) for name, part in zip(NAMES, parts, strict=True))


def largest_difference(found: dict, expected: np.ndarray) -> float:
    return max(float(jnp.abs(found[name] - value).max()) for name, value in split(expected).items())
