"""How well uncertainty tells errors apart, and how large it is: sparsification, coverage of intervals, and one factor.

All functions are of errors [P] and uncertainties [P] of pixels, in the same unit. They raise ValueError for other
numbers of both, for none, and for what is not finite, which sorting and counting would take for large or small.
"""

from __future__ import annotations

import numpy as np

SHARE = 0.9  # of the errors that `Modality.interval` holds
STEPS = 100  # of a sparsification curve
_SMALLEST = 1e-12  # uncertainty that counts as none


def _check(error: np.ndarray, other: np.ndarray) -> None:
    if error.shape != other.shape or not error.size:
        raise ValueError(f"errors have shape {error.shape}, uncertainties {other.shape}: must be the same, not empty")
    for name, values in (("errors", error), ("uncertainties", other)):
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{name} are NaN or infinite in {bad} of {values.size} pixels: must be finite")


def sparsification(error: np.ndarray, by: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Mean error of the pixels that are left when a share k / steps of them is removed, float64 [steps], k = 0, 1, ...

    Those with the largest `by` go first: the uncertainty, or the error itself, which is the best order that there is.
    This is the risk at coverage 1 - k / steps too. Pixels with the same `by` go in no particular order.
    """
    _check(error, by)
    mixed = np.random.default_rng(0).permutation(len(error))
    order = mixed[np.argsort(by[mixed], kind="stable")]
    sums = np.cumsum(np.asarray(error, np.float64)[order])
    kept = np.maximum(np.rint(len(error) * (1 - np.arange(steps) / steps)).astype(int), 1)
    return sums[kept - 1] / kept


def ause(error: np.ndarray, uncertainty: np.ndarray) -> float:
    """Area between the sparsification curves by uncertainty and by error, as a share of the mean error.

    0 is the order of the errors themselves (Ilg et al. 2018).
    """
    curves = (sparsification(error, by) for by in (uncertainty, error))
    return float(np.subtract(*curves).mean() / max(float(np.mean(error)), _SMALLEST))


def coverage(error: np.ndarray, uncertainty: np.ndarray, interval: float) -> float:
    """Share of the errors that are at most `interval` times the uncertainty."""
    _check(error, uncertainty)
    return float((error <= interval * uncertainty).mean())


def rate_gap(error: np.ndarray, uncertainty: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error of an uncertainty that is the chance of an error, 0 or 1 (Guo et al. 2017).

    That is the distance between both means, averaged over pixels in bins of like uncertainty.
    """
    _check(error, uncertainty)
    number = np.minimum((np.clip(uncertainty, 0, 1) * bins).astype(int), bins - 1)
    gaps = np.bincount(number, np.asarray(error, np.float64) - np.clip(uncertainty, 0, 1), bins)
    return float(np.abs(gaps).sum() / len(error))


def factor(error: np.ndarray, uncertainty: np.ndarray, interval: float | None) -> float:
    """The factor of the uncertainty with which its intervals hold 90% of these errors.

    Without intervals, that with which the mean uncertainty is the share of errors. 1 where there is nothing to go by.
    """
    _check(error, uncertainty)
    if interval is None:
        expected, found = float(np.mean(uncertainty)), float(np.mean(error))
        return found / expected if expected > 0 and found > 0 else 1.0
    ratio = float(np.quantile(error / np.maximum(uncertainty, _SMALLEST), SHARE)) / interval
    return ratio if 0 < ratio < 1 / _SMALLEST**0.5 else 1.0
