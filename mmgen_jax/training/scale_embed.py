"""Gives a model the scale of guidance as an input, or takes it away."""

from __future__ import annotations

import jax
import numpy as np

from mmgen_jax.models.architectures import Architecture, Params

NAME = "scale_embed"


def fit(params: Params, ours: Architecture) -> Params:
    """Parameters of a model of which `model.guided` of another is asked.

    Weights that are new are 0, so that the model makes at any scale what it made. Those of a model that has them stay.
    """
    if not ours.model.guided:
        return {name: part for name, part in params.items() if name != NAME}
    shapes = jax.eval_shape(ours.init, jax.random.key(0))[NAME]
    return {NAME: jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)} | params
