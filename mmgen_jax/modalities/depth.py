"""Depth: relative inverse depth, 1 = nearest.

Protocol of its scores (that of affine-invariant depth estimation, as in MiDaS and Marigold): depth is predicted as
relative inverse depth and is right up to a scale of at least 0 and a shift per image, which a least squares fit in
inverse depth finds over all valid pixels; the result is clipped to the range that the data set's depths have, inverted,
and compared in metres. Beside it stand scores after the other fit of papers, in depth; see `FITS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import relative_to_depth
from mmgen_jax.modalities.measure import Averages, averages, check, image_mean
from mmgen_jax.modalities.modality import Areas, Combined, Scalar

FITS = {
    "disparity": "scale (at least 0) and shift to 1 / depth, least squares, then clipped and inverted",
    "depth": "the model's own metres, then scale (at least 0) and shift to depth, least squares, then clipped",
}


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


def fitted(
    relative: np.ndarray,
    depth: np.ndarray,
    valid: np.ndarray,
    bounds: Sequence[float],
    own: Sequence[float] | None = None,
) -> np.ndarray:
    """Relative inverse depth [N, H, W] -> metres in `bounds` (near, far), by one of `FITS` to depth [N, H, W].

    With `own`, the (near, far) that the model was trained with, the fit is in depth, as Marigold's; without it in
    inverse depth, as that of MiDaS. They differ wherever the model is not right, so a table says which one it is.
    """
    if own is None:
        return align_depth(relative, depth, bounds, valid)
    metres = relative_to_depth(np.clip(relative, 0, 1), own)
    scale, shift = affine_fit(metres, np.where(valid, depth, 0), valid)
    near, far = bounds
    return np.clip(scale[:, None, None] * metres + shift[:, None, None], near, far)


def depth_errors(prediction: np.ndarray, depth: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Errors of depth in metres, p beside the true z, both [N, H, W], per image [N]; NaN without valid pixels.

    absrel = mean |p - z| / z; rmse in metres; log10 = mean |log10 p - log10 z|; silog = 100 times the standard
    deviation of log p - log z (Eigen et al. 2014); delta1 to delta3: shares with max(p / z, z / p) below 1.25, 1.25^2
    and 1.25^3. Raises ValueError for shapes that do not fit, and for depth of 0 or less, as of values that are not
    relative depth.
    """
    valid = check(prediction, depth, valid, depth.shape)
    if (depth[valid] <= 0).any() or (prediction[valid] <= 0).any():
        lowest = min(depth[valid].min(), prediction[valid].min())
        raise ValueError(f"depth is {lowest:g} m somewhere: must be above 0")
    p = np.where(valid, np.asarray(prediction, np.float64), 1)
    z = np.where(valid, np.asarray(depth, np.float64), 1)
    logs, ratio = np.log(p) - np.log(z), np.maximum(p / z, z / p)
    variance = image_mean(logs**2, valid) - image_mean(logs, valid) ** 2
    return {
        "absrel": image_mean(np.abs(p - z) / z, valid),
        "rmse": np.sqrt(image_mean((p - z) ** 2, valid)),
        "log10": image_mean(np.abs(logs), valid) / np.log(10),
        "silog": 100 * np.sqrt(np.maximum(variance, 0)),
    } | {f"delta{k}": image_mean(ratio < 1.25**k, valid) for k in (1, 2, 3)}


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


_TINY = 1e-8  # added to the variance of predicted depth, so that flat depth has a scale


class Depth(Scalar):
    """Relative inverse depth. Value: float in [0, 1] ``[..., H, W]``, 1 = nearest."""

    meaning = "floats in [0, 1], 1 = nearest"
    headlines: ClassVar[tuple[str, ...]] = ("absrel", "l1")  # there is one of them
    details: ClassVar[tuple[str, ...]] = ("log10", "silog", "delta2", "delta3", "fit_in_depth/rmse")

    def discrepancy(self, array: Any, truth: Any, where: Any, facts: Facts) -> Any:  # noqa: ARG002 no range is needed
        """Of relative depth after the scale and the shift that fit best, as a share of `wrong`."""
        import jax.numpy as jnp  # here, as commands that make data and know modalities need none of it

        found, wanted = self.differentiable(array), self.differentiable(truth)
        count = jnp.maximum(where.sum((1, 2), keepdims=True), 1)

        def centred(depth: Any) -> Any:
            return depth - jnp.where(where, depth, 0).sum((1, 2), keepdims=True) / count

        a, b = centred(found), centred(wanted)
        power, product = (jnp.where(where, a * other, 0).sum((1, 2), keepdims=True) for other in (a, b))
        scale = jnp.maximum(product, 0) / (power + _TINY * count)
        return abs(scale * a - b) / self.wrong

    def combine(self, draws: np.ndarray, facts: Facts) -> Combined:
        """The mean, and the standard deviation.

        Where the data set's depths have no range in metres, scale and shift of an image mean nothing: draws are aligned
        first, and what they differ in is the shape alone.
        """
        return super().combine(align(draws) if facts.depth_range is None else draws, facts)

    def score(self, prediction: np.ndarray, truth: np.ndarray, areas: Areas, facts: Facts) -> Averages:
        """Fitted over all pixels of an image, scored on all and on objects.

        See `depth_errors`, after a fit in disparity, and as fit_in_depth/... after one in depth; `FITS` says what they
        are. Where metres are unknown there is l1 alone, see `relative_depth_error`.
        """
        if facts.depth_range is None:
            return averages(lambda where: {"l1": relative_depth_error(prediction, truth, where)}, {"": areas[""]})
        depth = relative_to_depth(truth, facts.depth_range)
        inverse = fitted(prediction, depth, areas[""], facts.depth_range)
        direct = fitted(prediction, depth, areas[""], facts.depth_range, facts.depth_range)
        found = averages(lambda where: depth_errors(inverse, depth, where), areas)
        return found | averages(lambda where: depth_errors(direct, depth, where), {"fit_in_depth/": areas[""]})


DEPTH = Depth("depth", loss_weight=0.2)
