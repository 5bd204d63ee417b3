"""Depth: relative inverse depth, 1 = nearest.

Protocol of its scores (that of affine-invariant depth estimation, as in MiDaS and Marigold): depth is predicted as
relative inverse depth and is right up to a scale of at least 0 and a shift per image, which a least squares fit in
inverse depth finds over all valid pixels; the result is clipped to the range that the data set's depths have, inverted,
and compared in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import relative_to_depth
from mmgen_jax.modalities.measure import Averages, averages, check, image_mean
from mmgen_jax.modalities.modality import Areas, Combined, Scalar


def affine_fit(
    prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scale s >= 0 and shift b of each image for the least sum of (s prediction + b - truth)^2, of valid pixels.

    A prediction that is upside down fits no better than a constant.

    Args:
      prediction: float [N, H, W], in the space of the fit (for depth: inverse depth).
      truth: float [N, H, W].
      valid: bool [N, H, W]; all if None.

    Returns:
      (scale [N], shift [N]); a constant prediction gets scale 0 and the mean of the truth, an image without valid
      pixels NaN.

    Raises:
      ValueError: shapes that do not fit.
    """
    valid = check(prediction, truth, valid, truth.shape)
    p, q = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    middle_p, middle_q = image_mean(p, valid), image_mean(q, valid)
    dp, dq = p - middle_p[:, None, None], q - middle_q[:, None, None]
    variance, covariance = image_mean(dp * dp, valid), image_mean(dp * dq, valid)
    flat = variance <= 1e-14 * np.maximum(middle_p**2, 1e-14)
    scale = np.divide(covariance, variance, out=np.zeros_like(variance), where=~flat)
    scale = np.maximum(scale, 0)  # the sum is a parabola in s: beyond its lowest point the nearest s is the best
    return scale, middle_q - scale * middle_p


def align_depth(
    relative: np.ndarray, depth: np.ndarray, depth_range: Sequence[float], valid: np.ndarray | None = None
) -> np.ndarray:
    """Relative inverse depth to metres, float64 [N, H, W], by `affine_fit` to 1/depth; clipped to `depth_range`.

    Args:
      relative: float [N, H, W], larger is nearer, any scale and shift.
      depth: metric z > 0, [N, H, W].
      depth_range: metres (near, far) between which all depths of the data set lie; no prediction is at infinity.
      valid: bool [N, H, W]; all if None. An image without any becomes NaN.
    """
    valid = check(relative, depth, valid, depth.shape)
    scale, shift = affine_fit(relative, 1 / np.where(valid, np.asarray(depth, np.float64), 1), valid)
    near, far = depth_range
    return 1 / np.clip(scale[:, None, None] * relative + shift[:, None, None], 1 / far, 1 / near)


def depth_errors(prediction: np.ndarray, depth: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Errors of metric depth [N, H, W], per image [N]:

    absrel = mean |prediction - depth| / depth; delta1 = share with max(prediction / depth, depth / prediction) < 1.25.
    Raises ValueError for shapes that do not fit, and for depth of 0 or less, as of values that are not relative depth.
    """
    valid = check(prediction, depth, valid, depth.shape)
    if (depth[valid] <= 0).any() or (prediction[valid] <= 0).any():
        lowest = min(depth[valid].min(), prediction[valid].min())
        raise ValueError(f"depth is {lowest:g} m somewhere: must be above 0")
    p = np.where(valid, np.asarray(prediction, np.float64), 1)
    z = np.where(valid, np.asarray(depth, np.float64), 1)
    return {
        "absrel": image_mean(np.abs(p - z) / z, valid),
        "delta1": image_mean(np.maximum(p / z, z / p) < 1.25, valid),
    }


def relative_depth_error(relative: np.ndarray, truth: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
    """Mean |s relative + b - truth| of each image [N] after `affine_fit`: for data whose metric scale is unknown.

    Both are relative inverse depth [N, H, W]. AbsRel of z would need the unknown shift of the truth.
    """
    valid = check(relative, truth, valid, truth.shape)
    scale, shift = affine_fit(relative, truth, valid)
    return image_mean(np.abs(scale[:, None, None] * relative + shift[:, None, None] - truth), valid)


def align(draws: np.ndarray) -> np.ndarray:
    """Draws [n, K, H, W] of relative depth, each with the scale >= 0 and the shift that fit it best to the medoid.

    The medoid is the draw with which the others are correlated best, so one that went astray is never the reference.
    """
    n, count = draws.shape[:2]
    flat = draws.reshape(n, count, -1).astype(np.float64)
    flat = flat - flat.mean(-1, keepdims=True)
    products = flat @ flat.swapaxes(1, 2)
    power = np.sqrt(np.einsum("nkk->nk", products))
    sizes = np.maximum(power[:, :, None] * power[:, None], np.finfo(np.float64).tiny)
    likeness = np.square(np.maximum(products / sizes, 0)).sum(2)  # share of the variance that is explained, added up
    medoid = draws[np.arange(n), likeness.argmax(1)]
    fits = [affine_fit(draws[:, k], medoid) for k in range(count)]
    scale, shift = (np.stack(x, 1)[..., None, None] for x in zip(*fits, strict=True))
    return scale * draws + shift


class Depth(Scalar):
    """Relative inverse depth. Value: float in [0, 1] ``[..., H, W]``, 1 = nearest."""

    meaning = "floats in [0, 1], 1 = nearest"
    headlines: ClassVar[tuple[str, ...]] = ("absrel", "l1")  # there is one of them

    def combine(self, draws: np.ndarray, facts: Facts) -> Combined:
        """The mean, and the standard deviation.

        Where the data set's depths have no range in metres, scale and shift of an image mean nothing: draws are aligned
        first, and what they differ in is the shape alone.
        """
        return super().combine(align(draws) if facts.depth_range is None else draws, facts)

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Fitted over all pixels of an image, scored on all and on objects.

        absrel and delta1, see `depth_errors`; where metres are unknown l1, see `relative_depth_error`.
        """
        if facts.depth_range is None:
            return averages(lambda where: {"l1": relative_depth_error(prediction, truth, where)}, {"": areas[""]})
        depth = relative_to_depth(truth, facts.depth_range)
        aligned = align_depth(prediction, depth, facts.depth_range, areas[""])
        return averages(lambda where: depth_errors(aligned, depth, where), areas)


DEPTH = Depth("depth", loss_weight=0.2)
