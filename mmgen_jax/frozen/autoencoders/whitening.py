"""How much of the variance of latents each channel has."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def deviations(sigma: Float[np.ndarray, " K"], whitening: float) -> Float[np.ndarray, " K"]:
    """Standard deviations that latents shall have, of channels that change pixels by `sigma` each.

    They go as sigma^(1 - whitening), and the mean variance is 1: whitening 1 gives every channel unit variance, and 0
    keeps the distances of pixel space. In between, a diffusion finds what changes many pixels before the details.
    """
    found = np.asarray(sigma, np.float64) ** (1 - whitening)
    return found / np.sqrt(np.mean(found**2))
