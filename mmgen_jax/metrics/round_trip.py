"""What an autoencoder loses: images that are encoded and decoded again, scored as predictions are. It is a ceiling."""

from __future__ import annotations

from collections.abc import Iterable

import jax
import numpy as np

from mmgen_jax.data import pipeline
from mmgen_jax.frozen.autoencoders.protocol import Arrays, Autoencoder
from mmgen_jax.metrics import dense
from mmgen_jax.metrics.report import truth
from mmgen_jax.metrics.runner import to_values
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.measure import Averages, added
from mmgen_jax.modalities.pixels import to_array

_jitted = jax.jit(lambda autoencoder, arrays: autoencoder.decode(autoencoder.encode(arrays)))


def images(autoencoder: Autoencoder, arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays [N, H, W, C] in [-1, 1] of some modalities, encoded and decoded again."""
    return {m: np.asarray(x) for m, x in _jitted(autoencoder, arrays).items()}


def scores(autoencoder: Autoencoder, scenes: Iterable[pipeline.Batch], facts: Facts) -> dict[str, float]:
    """Scores of each modality, as `dense.averages` names them, on scenes that were read with the same modalities."""
    names = autoencoder.modalities
    total: Averages = {}
    for batch in scenes:
        found = images(autoencoder, {m: to_array(batch[m]) for m in names})
        present = {m: batch["present"][:, i] for i, m in enumerate(names)}
        part = dense.averages(to_values(found, facts), truth(batch, names, facts), facts, present)
        total = added(total, part)
    return {name: average.value for name, average in total.items()}
