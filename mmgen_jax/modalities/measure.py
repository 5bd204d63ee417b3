"""Averages over images and errors that no single modality owns: NumPy functions of arrays.

One value per image where that makes sense; an image without valid pixels gives NaN, and averages leave those out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mmgen_jax.modalities.geometry import angle

ANGLES = (11.25, 22.5, 30.0)  # degrees, the shares that the field reports

Values = Mapping[str, np.ndarray]


def check(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None, pixels: tuple[int, ...]) -> np.ndarray:
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


def averages(errors: Callable[[np.ndarray], Values], areas: Values) -> dict[str, float]:
    """`errors` of the pixels of each area (name -> bool [N, H, W]), averaged over images, as {area + error: mean}."""
    return {f"{area}{key}": mean(value) for area, where in areas.items() for key, value in errors(where).items()}


def psnr(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Peak signal to noise ratio of uint8 [N, H, W, 3] in dB over valid pixels, per image [N]; at most 100."""
    error = ((prediction.astype(np.float64) - truth) / 255) ** 2
    return -10 * np.log10(np.maximum(image_mean(error.mean(-1), valid), 1e-10))


def normal_errors(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Angular errors of directions [N, H, W, 3], per image [N]:

    mean and median in degrees, and the shares under_11.25, under_22.5 and under_30.
    """
    valid = check(prediction, truth, valid, truth.shape[:-1])
    error = angle(prediction, truth)
    medians = [np.median(e[v]) if v.any() else np.nan for e, v in zip(error, valid, strict=True)]
    shares = {f"under_{limit:g}": image_mean(error < limit, valid) for limit in ANGLES}
    return {"mean": image_mean(error, valid), "median": np.array(medians)} | shares


def confusion(prediction: np.ndarray, truth: np.ndarray, regions: int, valid: np.ndarray | None = None) -> np.ndarray:
    """Pixels of the whole set by true (row) and predicted (column) region, int64 [R, R]; ids int [N, H, W]."""
    valid = check(prediction, truth, valid, truth.shape)
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
