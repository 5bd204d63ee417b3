"""The FID Inception-v3 with random weights: large enough, 95 MB, to be drawn from a seed and not stored."""

from __future__ import annotations

import numpy as np

from mmgen_jax.frozen import inception_files


def state() -> dict[str, np.ndarray]:
    """Weights that keep activations at their size from layer to layer, with the names of the files that people have."""
    rng, state = np.random.default_rng(0), {}
    for name, shape in inception_files.wanted().items():
        if len(shape) > 1:
            value = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        elif name.endswith(("running_var", "bn.weight")):
            value = rng.uniform(0.5, 1.5, shape)
        else:
            value = rng.normal(size=shape) * 0.1
        state[name] = value.astype(np.float32)
    return state
