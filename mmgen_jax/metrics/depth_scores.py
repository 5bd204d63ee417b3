"""The scores that papers print of depth whose scale and shift are fitted: per image, after a fit of a stated kind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from mmgen_jax.modalities.depth import affine_fit, align_depth, depth_errors
from mmgen_jax.modalities.geometry import relative_to_depth
from mmgen_jax.modalities.measure import image_mean

FITS = {
    "disparity": "scale (at least 0) and shift to 1 / depth, least squares, then clipped and inverted",
    "depth": "the model's own metres, then scale (at least 0) and shift to depth, least squares, then clipped",
}


def fitted(
    relative: Float[np.ndarray, "N H W"],
    depth: Float[np.ndarray, "N H W"],
    valid: Bool[np.ndarray, "N H W"],
    bounds: tuple[float, float],
    own: Sequence[float] | None = None,
) -> Float[np.ndarray, "N H W"]:
    """Relative inverse depth -> metres in `bounds` (near, far), by one of `FITS`.

    With `own`, the (near, far) that the model was trained with, the fit is in depth, as Marigold's; without it in
    inverse depth, as that of MiDaS. They differ wherever the model is not right, so a table says which one it is.
    """
    if own is None:
        return align_depth(relative, depth, bounds, valid)
    metres = relative_to_depth(np.clip(relative, 0, 1), own)
    scale, shift = affine_fit(metres, np.where(valid, depth, 0), valid)
    return np.clip(scale[:, None, None] * metres + shift[:, None, None], *bounds)


def errors(
    prediction: Float[np.ndarray, "N H W"], depth: Float[np.ndarray, "N H W"], valid: Bool[np.ndarray, "N H W"]
) -> dict[str, np.ndarray]:
    """Errors of metres above 0, per image [N]; NaN for an image without valid pixels.

    absrel as in `depth_errors`; rmse in metres; log10 = mean |log10 p - log10 z|; silog = 100 times the standard
    deviation of log p - log z (Eigen et al. 2014); delta1 to delta3: shares with max(p / z, z / p) below 1.25, 1.25^2
    and 1.25^3. Raises ValueError as `depth_errors` does.
    """
    found = depth_errors(prediction, depth, valid)
    p, z = (np.where(valid, np.asarray(x, np.float64), 1) for x in (prediction, depth))
    ratio = np.log(p) - np.log(z)
    variance = image_mean(ratio**2, valid) - image_mean(ratio, valid) ** 2
    return {
        "absrel": found["absrel"],
        "rmse": np.sqrt(image_mean((p - z) ** 2, valid)),
        "log10": image_mean(np.abs(ratio), valid) / np.log(10),
        "silog": 100 * np.sqrt(np.maximum(variance, 0)),
        "delta1": found["delta1"],
    } | {f"delta{k}": image_mean(np.exp(np.abs(ratio)) < 1.25**k, valid) for k in (2, 3)}
