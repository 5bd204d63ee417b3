"""Inception Score (Salimans et al. 2016) of the probabilities that a classifier gives to images."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import special

SPLIT = 5000  # images scored together, as in ADM


def inception_score(probabilities: Float[np.ndarray, "N K"], split: int = SPLIT) -> float:
    """exp of the mean KL divergence of p(class | image) from p(class), the mean over splits of `split` images.

    From 1 (all images look alike to the classifier, or like nothing) to K (each is of one class, and all are equally
    frequent). Splits follow the order of the images; the last one has what is left. Raises ValueError for no image.
    """
    if not len(probabilities):
        raise ValueError("there is no image; an Inception Score needs at least 1")
    numbers = np.asarray(probabilities, np.float64)
    parts = [numbers[i : i + split] for i in range(0, len(numbers), split)]
    return float(np.mean([np.exp(special.rel_entr(part, part.mean(0)).sum(1).mean()) for part in parts]))
