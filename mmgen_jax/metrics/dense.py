"""Depth, normals and masks against a reference: NumPy functions of arrays, one value per image where that makes sense.

Protocol (that of affine-invariant depth estimation, as in MiDaS and Marigold, and of surface normal benchmarks):
depth is predicted as relative inverse depth and is right up to a scale and a shift per image, which a least squares
fit in inverse depth finds over all valid pixels; the result is clipped to the range of the true depths of the whole
set, inverted, and compared in metres. Normals are compared by angle. IoU counts pixels over the whole set.

`summary` does all of it for dicts of values; empty images give NaN, and averages leave those out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

ANGLES = (11.25, 22.5, 30.0)  # degrees, the shares that the field reports
OBJECTS = ("object", "distractor")  # regions that count as objects

Values = Mapping[str, np.ndarray]


def _check(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None, pixels: tuple[int, ...]) -> np.ndarray:
    """Bool array of shape `pixels` that says where to look; ValueError if shapes do not fit."""
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction has shape {prediction.shape}: must be that of the truth, {truth.shape}")
    if valid is None:
        return np.ones(pixels, bool)
    if valid.shape != pixels:
        raise ValueError(f"valid has shape {valid.shape}: must be {pixels}")
    return np.asarray(valid, bool)


def image_mean(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean over the pixels of each image where `where`, float [N]; NaN for none."""
    count = where.reshape(len(where), -1).sum(1)
    total = np.where(where, values, 0).reshape(len(where), -1).sum(1, dtype=np.float64)
    return np.divide(total, count, out=np.full(len(where), np.nan), where=count > 0)


def mean(values: np.ndarray) -> float:
    """Mean of an array without its NaNs; NaN if nothing is left."""
    values = np.asarray(values, np.float64)
    return float(values[~np.isnan(values)].mean()) if np.any(~np.isnan(values)) else float("nan")


def affine_fit(
    prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scale s and shift b of each image that minimise the sum over valid pixels of (s prediction + b - truth)^2.

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
    valid = _check(prediction, truth, valid, truth.shape)
    p, q = np.asarray(prediction, np.float64), np.asarray(truth, np.float64)
    middle_p, middle_q = image_mean(p, valid), image_mean(q, valid)
    dp, dq = p - middle_p[:, None, None], q - middle_q[:, None, None]
    variance, covariance = image_mean(dp * dp, valid), image_mean(dp * dq, valid)
    flat = variance <= 1e-14 * np.maximum(middle_p**2, 1e-14)
    scale = np.divide(covariance, variance, out=np.zeros_like(variance), where=~flat)
    return scale, middle_q - scale * middle_p


def to_inverse_depth(relative: np.ndarray, depth_range: Sequence[float]) -> np.ndarray:
    """Relative inverse depth [0, 1] (1 = near) to 1/z in 1/metres, for a fixed `depth_range` (near, far) in metres."""
    near, far = depth_range
    return np.asarray(relative, np.float64) * (1 / near - 1 / far) + 1 / far


def align_depth(relative: np.ndarray, depth: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Relative inverse depth to metres, float64 [N, H, W], by `affine_fit` to 1/depth.

    The fitted inverse depth is clipped to the range of 1/depth over the valid pixels of the set before inversion.

    Args:
      relative: float [N, H, W], larger is nearer, any scale and shift.
      depth: metric z > 0, [N, H, W].
      valid: bool [N, H, W]; all if None.
    """
    valid = _check(relative, depth, valid, depth.shape)
    inverse = 1 / np.where(valid, np.asarray(depth, np.float64), 1)
    scale, shift = affine_fit(relative, inverse, valid)
    if not valid.any():
        return np.full(depth.shape, np.nan)
    fitted = scale[:, None, None] * relative + shift[:, None, None]
    return 1 / np.clip(fitted, inverse[valid].min(), inverse[valid].max())


def depth_errors(prediction: np.ndarray, depth: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Errors of metric depth [N, H, W], per image [N]:

    absrel = mean |prediction - depth| / depth; delta1 = share with max(prediction / depth, depth / prediction) < 1.25.
    """
    valid = _check(prediction, depth, valid, depth.shape)
    p = np.where(valid, np.asarray(prediction, np.float64), 1)
    z = np.where(valid, np.asarray(depth, np.float64), 1)
    return {
        "absrel": image_mean(np.abs(p - z) / z, valid),
        "delta1": image_mean(np.maximum(p / z, z / p) < 1.25, valid),
    }


def relative_depth_error(relative: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Mean |s relative + b - truth| of each image [N] after `affine_fit`: for data whose metric scale is unknown.

    Both are relative inverse depth [N, H, W]. AbsRel of z would need the unknown shift of the truth.
    """
    valid = _check(relative, truth, valid, truth.shape)
    scale, shift = affine_fit(relative, truth, valid)
    return image_mean(np.abs(scale[:, None, None] * relative + shift[:, None, None] - truth), valid)


def angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between vectors [..., 3] in degrees, float64 [...]; exact near 0 too, where arccos is not."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(-1)))


def normal_errors(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Angular errors of normals [N, H, W, 3], per image [N]:

    mean and median in degrees, and the shares under_11.25, under_22.5 and under_30.
    """
    valid = _check(prediction, truth, valid, truth.shape[:-1])
    error = angle(prediction, truth)
    medians = [np.median(e[v]) if v.any() else np.nan for e, v in zip(error, valid, strict=True)]
    shares = {f"under_{limit:g}": image_mean(error < limit, valid) for limit in ANGLES}
    return {"mean": image_mean(error, valid), "median": np.array(medians)} | shares


def confusion(prediction: np.ndarray, truth: np.ndarray, regions: int, valid: np.ndarray | None = None) -> np.ndarray:
    """Pixels of the whole set by true (row) and predicted (column) region, int64 [R, R]; ids int [N, H, W]."""
    valid = _check(prediction, truth, valid, truth.shape)
    for name, ids in (("prediction", prediction[valid]), ("truth", truth[valid])):
        if ids.size and not 0 <= ids.min() <= ids.max() < regions:
            raise ValueError(f"{name} has region ids {ids.min()} to {ids.max()}: must be 0 to {regions - 1}")
    pairs = truth[valid].astype(np.int64) * regions + prediction[valid]
    return np.bincount(pairs, minlength=regions**2).reshape(regions, regions)


def iou(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each region, float [R], from a confusion matrix.

    NaN for a region that is neither there nor predicted; 0 for one that is predicted but not there.
    """
    hit = np.diag(matrix).astype(np.float64)
    union = matrix.sum(0) + matrix.sum(1) - hit
    return np.divide(hit, union, out=np.full(len(hit), np.nan), where=union > 0)


def object_pixels(mask: np.ndarray, regions: Sequence[str]) -> np.ndarray | None:
    """Bool [N, H, W], which pixels of region ids are objects; None if no region is called so."""
    ids = [i for i, name in enumerate(regions) if name in OBJECTS]
    return np.isin(mask, ids) if ids else None


def summary(
    prediction: Values,
    truth: Values,
    regions: Sequence[str],
    depth_range: Sequence[float] | None = None,
    present: Values | None = None,
) -> dict[str, float]:
    """All of the above, averaged over images.

    Args:
      prediction: values (see `modalities`) of some modalities: depth [N, H, W] relative inverse depth, normal
        [N, H, W, 3], mask int [N, H, W] and rgb uint8 [N, H, W, 3].
      truth: values of at least the same modalities; its mask tells which pixels are objects.
      regions: names of the region ids.
      depth_range: (near, far) in metres of relative depth 1 and 0; None if unknown, then depth/l1 replaces
        depth/absrel and depth/delta1.
      present: modality -> bool [N], images whose truth exists; all if None.

    Returns:
      flat dict: depth/absrel, depth/objects/absrel, normal/mean, normal/objects/mean, mask/miou, mask/iou/NAME,
      rgb/psnr in dB, ...
    """
    ones = np.ones(len(next(iter(truth.values()))), bool)
    present = {m: ones if present is None else np.asarray(present.get(m, ones)) for m in truth}
    objects = object_pixels(truth["mask"], regions) if "mask" in truth else None
    if objects is not None:
        objects = objects & present["mask"][:, None, None]
    scores: dict[str, float] = {}
    for m in (m for m in prediction if m in SCORES):
        everywhere = np.broadcast_to(present[m][:, None, None], truth[m].shape[:3])
        areas = {"": everywhere} if objects is None else {"": everywhere, "objects/": objects & everywhere}
        found = SCORES[m](prediction[m], truth[m], areas, regions, depth_range)
        scores |= {f"{m}/{key}": value for key, value in found.items()}
    return scores


def _averages(errors: Callable[[np.ndarray], Values], areas: Values) -> dict[str, float]:
    """Errors of the pixels of each area, averaged over images."""
    return {f"{area}{key}": mean(value) for area, where in areas.items() for key, value in errors(where).items()}


def _rgb_scores(prediction, truth, areas, regions, depth_range) -> dict[str, float]:
    error = ((prediction.astype(np.float64) - truth) / 255) ** 2
    return {"psnr": mean(-10 * np.log10(np.maximum(image_mean(error.mean(-1), areas[""]), 1e-10)))}


def _depth_scores(relative, truth, areas, regions, depth_range) -> dict[str, float]:
    """Fitted over all pixels of an image, scored on all and on objects."""
    if depth_range is None:
        return {"l1": mean(relative_depth_error(relative, truth, areas[""]))}
    depth = 1 / to_inverse_depth(truth, depth_range)
    aligned = align_depth(relative, depth, areas[""])
    return _averages(lambda where: depth_errors(aligned, depth, where), areas)


def _normal_scores(prediction, truth, areas, regions, depth_range) -> dict[str, float]:
    return _averages(lambda where: normal_errors(prediction, truth, where), areas)


def _mask_scores(prediction, truth, areas, regions, depth_range) -> dict[str, float]:
    if not regions:  # colours of no fixed meaning
        return {}
    shares = iou(confusion(prediction, truth, len(regions), areas[""]))
    return {"miou": mean(shares)} | {f"iou/{name}": float(x) for name, x in zip(regions, shares, strict=True)}


# modality -> (prediction, truth, areas: name -> pixels, regions, depth_range) -> scores averaged over images
SCORES = {"rgb": _rgb_scores, "depth": _depth_scores, "normal": _normal_scores, "mask": _mask_scores}
