"""Averages over images and errors that no single modality owns: NumPy functions of arrays.

One value per image where that makes sense; an image without valid pixels gives NaN, and averages leave it out. Where
there are pixels to compare, a prediction that is NaN makes NaN of every average that it is part of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mmgen_jax.modalities.geometry import angle

ANGLES = (5.0, 7.5, 11.25, 22.5, 30.0)  # degrees, the shares that the field reports

Values = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Average:
    """A score to which that of more images can be added.

    Attributes:
      total, count: float and int [K]. The score is the mean of total / count over the entries that count anything: one
        for the mean over images, one for each region where the score is a share of pixels.
    """

    total: np.ndarray
    count: np.ndarray

    def __add__(self, other: Average) -> Average:
        return Average(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float:
        """The score; NaN if nothing was counted."""
        counted = self.count > 0
        return float((self.total[counted] / self.count[counted]).mean()) if counted.any() else float("nan")


Averages = dict[str, Average]


def added(first: Averages, second: Averages) -> Averages:
    """The scores of the images of both."""
    return first | {key: first[key] + average if key in first else average for key, average in second.items()}


def known(truth: np.ndarray) -> np.ndarray:
    """Bool [N, H, W], where values [N, H, W] or [N, H, W, 3] of a truth are numbers: NaN is a hole in it."""
    finite = np.isfinite(truth)
    return finite.all(-1) if finite.ndim == 4 else finite


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
    pixels = tuple(range(1, where.ndim))
    count = where.sum(pixels)
    total = np.where(where, values, 0).sum(pixels, dtype=np.float64)
    return np.divide(total, count, out=np.full(len(where), np.nan), where=count > 0)


def over_images(values: np.ndarray, where: np.ndarray) -> Average:
    """The mean of one value per image [N] over the images that have a pixel where `where`, bool [N, ...]."""
    counted = where.any(tuple(range(1, where.ndim)))
    return Average(np.array([np.sum(values[counted], dtype=np.float64)]), np.array([counted.sum()]))


def over_known(values: np.ndarray) -> Average:
    """The mean over the images [N] that have pixels to compare: those whose value is not NaN."""
    return over_images(values, ~np.isnan(values))


def averages(errors: Callable[[np.ndarray], Values], areas: Values) -> Averages:
    """`errors` of the pixels of each area (name -> bool [N, H, W]), averaged over images, as {area + error: mean}."""
    return {
        f"{area}{key}": over_images(value, where)
        for area, where in areas.items()
        for key, value in errors(where).items()
    }


def psnr(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Peak signal to noise ratio of uint8 [N, H, W, 3] in dB over valid pixels, per image [N]; at most 100."""
    error = ((prediction.astype(np.float64) - truth) / 255) ** 2
    return -10 * np.log10(np.maximum(image_mean(error.mean(-1), valid), 1e-10))


def normal_errors(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Angular errors of directions [N, H, W, 3], per image [N]:

    mean and median in degrees, and the shares under_5, under_7.5, under_11.25, under_22.5 and under_30.
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


def adjusted_rand(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Adjusted Rand index of region ids int [N, H, W], per image [N] (Hubert and Arabie 1985, from pairs of pixels).

    It compares how pixels are grouped, whatever the groups are called: 1 for the same groups, 0 as by chance, and below
    it for worse. NaN for an image without valid pixels.
    """
    valid = check(prediction, truth, valid, truth.shape)
    return np.array([_adjusted_rand(p[v], t[v]) for p, t, v in zip(prediction, truth, valid, strict=True)], np.float64)


def _adjusted_rand(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Of ids [P] of one image."""

    def pairs(ids: np.ndarray) -> float:
        counts = np.unique(ids, return_counts=True, axis=0)[1].astype(np.float64)
        return float((counts * (counts - 1)).sum()) / 2

    if not truth.size:
        return float("nan")
    together, found, true = pairs(np.stack([prediction, truth], 1)), pairs(prediction), pairs(truth)
    if together == found == true:
        return 1.0  # the same groups, also where all pixels are in one, of which chance says the same
    chance = found * true / (truth.size * (truth.size - 1) / 2)
    return (together - chance) / ((found + true) / 2 - chance)


def matched_iou(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None) -> np.ndarray:
    """Mean intersection over union of the true regions with the predicted ones they are matched with, per image [N].

    Region ids int [N, H, W] are numbers without a meaning. Each true region gets at most one predicted region, and each
    predicted one at most one true, so that the sum is the largest (Kuhn 1955). A true region that gets none, or one
    that it does not overlap, counts 0; predicted regions that are left over count nothing themselves, and what they
    cover is missing from the regions that it belongs to. NaN for an image without valid pixels.
    """
    valid = check(prediction, truth, valid, truth.shape)
    return np.array([_matched_iou(p[v], t[v]) for p, t, v in zip(prediction, truth, valid, strict=True)], np.float64)


def _matched_iou(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Of ids [P] of one image."""
    from scipy.optimize import linear_sum_assignment  # takes half a second, and commands import this file for --help

    if not truth.size:
        return float("nan")
    (true, rows), (found, columns) = (np.unique(ids, return_inverse=True) for ids in (truth, prediction))
    common = np.bincount(rows * len(found) + columns, minlength=len(true) * len(found)).reshape(len(true), len(found))
    shares = common / (common.sum(1, keepdims=True) + common.sum(0) - common)
    return float(shares[linear_sum_assignment(shares, maximize=True)].sum() / len(true))


def iou(matrix: np.ndarray) -> Average:
    """Intersection over union of each region, from a confusion matrix: an `Average` with an entry for each.

    A region that is neither there nor predicted counts nothing; one that is predicted but not there scores 0.
    """
    hit = np.diag(matrix)
    return Average(hit.astype(np.float64), matrix.sum(0) + matrix.sum(1) - hit)
