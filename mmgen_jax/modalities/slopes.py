"""Slopes of images that were stored in few levels, by planes fitted to windows whose size follows the levels.

A difference of neighbours is 0 wherever a surface rises by less than one level a pixel, and then every surface seems to
face the camera. A plane through many pixels averages the rounding out. The largest window wins in which a plane fits as
well as rounding to levels allows; larger residuals mean an edge or a curve, and a smaller window.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
from scipy import ndimage

from mmgen_jax.modalities.geometry import Camera, normals_from_depth, to_inverse_depth

Planes = np.ndarray  # [3, H, W]: slope to the right, slope downwards, root mean square residual

_RADII = (1, 2, 3, 5, 8, 12, 18)  # of windows, in pixels; the largest is for the levels of 8 bits
# Rounding a plane to levels leaves residuals of 1 / sqrt(12) = 0.29 of a level (root mean square); a jump of one object
# to another, or a curve, leaves more.
_FITS = 0.4
_MANY, _FLAT = 8, 4  # numbers of flat parts that tell levels, and pixels of each
_STORED = 2.5 / 65535  # by how much rounding to 16 bits moves multiples of the smallest gap
_CLOSE, _ENOUGH = 0.25, 24  # mean cosine of the phases of numbers around levels, and how many levels tell it
_ROUNDING = 1e-9  # of float64, relative to the largest number


def level(numbers: np.ndarray, valid: np.ndarray | None = None) -> float:
    """The size of one level of [H, W] numbers in [0, 1] that were rounded to levels; 0 if all are equal.

    It is the smallest difference of two numbers. Where the image was resized after it was rounded, all numbers occur,
    but flat parts still have those of the levels: many numbers, all of them whole levels apart. Without flat parts, as
    on steep slopes, the numbers still gather around levels of 8 bits (see `_gathered`), which are the usual ones.

    Args:
      numbers: [H, W].
      valid: bool [H, W], the pixels that count; all if None.
    """
    known = numbers if valid is None else numbers[valid]
    steps = np.diff(np.unique(known))
    if not len(steps):
        return 0.0
    smallest = float(steps.min())
    flat = ndimage.maximum_filter(numbers, 3) == ndimage.minimum_filter(numbers, 3)
    kept, counts = np.unique(numbers[flat if valid is None else flat & valid], return_counts=True)
    kept = kept[counts >= _FLAT]
    if smallest < 0.5 / 255 and (size := _gathered(numbers[~flat if valid is None else ~flat & valid])):
        return size
    if len(kept) <= _MANY:
        return smallest
    gaps = np.diff(kept)
    larger = float(gaps.min())
    exact = gaps - np.rint(gaps / larger) * larger
    levels = larger > max(3 * smallest, 30 * _STORED) and np.abs(exact).max() <= _STORED
    return larger if levels else smallest


def _gathered(numbers: np.ndarray) -> float:
    """The size of a level of 8 bits, stored in 16, around whose multiples numbers [P] gather; 0 if they do not.

    The mean cosine of their phases is 0 for numbers of any smooth surface. Resizing, which moves numbers between two
    levels only where one meets the other, leaves more on all slopes of less than about a level for each pixel. Each
    level counts alike, and only with several different numbers: a frontal surface has one alone.
    """
    different = np.unique(numbers)
    for step in (257, 256):  # of numbers that were scaled, and of those that were shifted
        of = np.rint(numbers * 65535 / step).astype(int)
        cosines, counts = np.bincount(of, np.cos(2 * np.pi * numbers * 65535 / step)), np.bincount(of)
        kinds = np.bincount(np.rint(different * 65535 / step).astype(int), minlength=len(counts))
        there = (counts >= _MANY) & (kinds > 1)
        if there.sum() >= _ENOUGH and (cosines[there] / counts[there]).mean() > _CLOSE:
            return step / 65535
    return 0.0


def plane_slopes(q: np.ndarray, size: float, valid: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of q [H, W] per pixel, to the right and downwards, each float64 [H, W].

    Args:
      q: numbers that were rounded to levels.
      size: of one level; 0 for exact numbers.
      valid: bool [H, W], the pixels that count; all if None. Slopes of the others mean nothing.
    """
    weight = np.ones(q.shape) if valid is None else valid.astype(np.float64)
    known = q[weight > 0]
    q = np.where(weight > 0, q - (known.mean() if known.size else 0), 0)
    tolerance = max(_FITS * size, _ROUNDING * float(np.abs(q).max(initial=0)))
    span = float(np.ptp(known)) if known.size else 0.0
    largest = _RADII[-1] * (255 * size / span) ** (1 / 3) if span else 0.0  # keeps the error of a slope in check
    right, down, _ = _best_window(_fits(q, weight, _RADII[0]), _RADII[0])  # however badly it fits
    for radius in _RADII[1:]:
        if radius > max(largest, _RADII[1]) or 2 * radius + 1 > min(q.shape):
            break
        wider = _best_window(_fits(q, weight, radius), radius)
        fits = wider[2] <= tolerance
        right, down = np.where(fits, wider[0], right), np.where(fits, wider[1], down)
    return right, down


def normals(relative: np.ndarray, camera: Camera, valid: np.ndarray | None = None) -> np.ndarray:
    """Unit normals float64 [H, W, 3] in camera space of relative inverse depth [H, W] in [0, 1]; edges stay sharp.

    The depth may be rounded to levels, as of 8 bits, and resized after that; see `slopes.level`.
    Pixels that are not `valid`, bool [H, W], count nowhere, and their normals mean nothing.
    """
    near, far = camera.depth_range
    size = level(relative, valid) * (1 / near - 1 / far)
    slopes = functools.partial(plane_slopes, size=size, valid=valid)
    return normals_from_depth(to_inverse_depth(relative, camera.depth_range), camera.fov, slopes)


def _fits(q: np.ndarray, weight: np.ndarray, radius: int) -> Planes:
    """The planes fitted to the windows around each pixel."""
    height, width = q.shape
    x, y = np.arange(width) - width / 2.0, np.arange(height)[:, None] - height / 2.0

    def total(values: np.ndarray) -> np.ndarray:
        return _box(_box(weight * values, radius, 0), radius, 1)

    n = np.maximum(total(np.ones(q.shape)), 1)
    mx, my, mq = total(x + 0 * q) / n, total(y + 0 * q) / n, total(q) / n
    xx, yy, xy = total(x * x + 0 * q) / n - mx * mx, total(y * y + 0 * q) / n - my * my, total(x * y) / n - mx * my
    xq, yq, qq = total(x * q) / n - mx * mq, total(y * q) / n - my * mq, total(q * q) / n - mq * mq
    determinant = xx * yy - xy * xy
    solvable = determinant > 1e-6 * np.maximum(xx * yy, 1e-6)  # pixels on one line have no plane
    safe = np.where(solvable, determinant, 1)
    a, b = (yy * xq - xy * yq) / safe, (xx * yq - xy * xq) / safe
    residual = np.sqrt(np.maximum(qq - a * xq - b * yq, 0))
    return np.stack([np.where(solvable, a, 0), np.where(solvable, b, 0), np.where(solvable, residual, np.inf)])


def _best_window(planes: Planes, radius: int) -> Planes:
    """Of the nine windows around and beside each pixel, the plane that fits best; the middle one unless others do."""
    best, (height, width) = planes, planes.shape[1:]
    padded = np.pad(planes, ((0, 0), (radius, radius), (radius, radius)), constant_values=np.inf)
    for dy, dx in itertools.product((0, radius, 2 * radius), repeat=2):
        shifted = padded[:, dy : dy + height, dx : dx + width]
        # A window beside the pixel must fit clearly better, as only the middle one is right on curves.
        best = np.where(shifted[2] < 0.5 * best[2], shifted, best)
    return best


def _box(values: np.ndarray, radius: int, axis: int) -> np.ndarray:
    """Sums over windows of 2 radius + 1 along an axis, cut at the ends."""
    pad = [(0, 0), (0, 0)]
    pad[axis] = (radius + 1, radius)
    sums = np.cumsum(np.pad(values, pad), axis)
    upper, lower = (np.arange(k, k + values.shape[axis]) for k in (2 * radius + 1, 0))
    return np.take(sums, upper, axis) - np.take(sums, lower, axis)
