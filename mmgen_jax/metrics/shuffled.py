"""The control of predictions: what they score as those of another scene."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from mmgen_jax.sampling.sampler import Arrays


class Shuffled:
    """Gives each scene what was predicted of the scene before it, also across batches; the first scene has nothing.

    Such predictions are as good as they can be without the image: they look like those of this data set, and are
    aligned with the truth as the model's own are.
    """

    def __init__(self) -> None:
        self._last: Arrays = {}
        self._valid = np.zeros(1, bool)

    def __call__(
        self, made: Arrays, valid: Bool[np.ndarray, " N"] | None = None
    ) -> tuple[Arrays, Bool[np.ndarray, " N"]]:
        """Moves the predictions of a batch on by one scene.

        Args:
          made: values of some modalities, [N, H, W] or [N, H, W, 3].
          valid: which scenes had what a prediction needs; None means all.

        Returns:
          values of the same shapes, and which scenes have such a prediction.
        """
        count = len(next(iter(made.values())))
        valid = np.ones(count, bool) if valid is None else valid
        moved = {m: np.concatenate([self._last.get(m, x[:1]), x[:-1]]) for m, x in made.items()}
        there = np.concatenate([self._valid, valid[:-1]])
        self._last, self._valid = {m: x[-1:] for m, x in made.items()}, valid[-1:]
        return moved, there
