"""The camera of a picture, and what its relative depth means: given, known of the data set, estimated, or assumed.

Relative inverse depth d is 1/z up to a scale and a shift. The scale makes a scene larger or smaller; a wrong shift
bends it, and so does a wrong field of view. Where the range of the data set's depths in metres is known, both are.
Where it is not, the nearest distance (d = 1) counts as 1, and how far away d = 0 is stands for the shift.

Normals tell what is missing. With q = d + b and image coordinates x, y in halves of the width, the normal is along

    m = (-k q_x, -k q_y, q - x q_x - y q_y),    k = 1 / tan(fov / 2)

(`geometry.normals_from_depth`), so that k and b are those for which m and the predicted normals agree, by least squares
with a loss that outliers at edges hardly move. One plane tells one of the two, several planes or a curve tell both.
Means over blocks are compared, as slopes of the waves that networks make are steeper than surfaces at fine pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import optimize

from mmgen_jax.modalities import pixels
from mmgen_jax.modalities.geometry import Camera, rays
from mmgen_jax.modalities.slopes import level, plane_slopes

GIVEN, OF_DATA, ESTIMATED, ASSUMED = "given", "of the data set", "estimated", "assumed"
FOV, FAR = 60.0, 10.0  # assumed: degrees, and how many times as far away as the nearest the farthest distance is
_FOVS, _FARS = (10.0, 130.0), (1.02, 100.0)  # that are found
_FITS = 4  # each with a loss that grows as squares do up to the median difference of the one before it
_SCALE = 0.1, 1e-3  # that of the first, and the smallest: differences of unit vectors
_BLOCKS = 32  # of pixels along the shorter side, that an estimate looks at
_TOLD = 0.01  # root mean square of the change of normals, by factor e of what is unknown, by which normals tell it


@dataclass(frozen=True)
class View:
    """The camera of one picture.

    Attributes:
      camera: field of view of its width, and the distances at which relative inverse depth is 1 and 0.
      fov_is: where the field of view is from: "given", "of the data set", "estimated" or "assumed".
      range_is: where the distances are from: "of the data set" in metres, else as above, in multiples of the nearest.
    """

    camera: Camera
    fov_is: str
    range_is: str

    @property
    def metric(self) -> bool:
        """Whether lengths are metres; else they are multiples of the distance at which relative inverse depth is 1."""
        return self.range_is == OF_DATA

    def __str__(self) -> str:
        near, far = self.camera.depth_range
        span = f"{near:g} to {far:g} metres" if self.metric else f"1 to {far:.3g} times the nearest distance"
        return f"field of view {self.camera.fov:.1f} degrees ({self.fov_is}), depth {span} ({self.range_is})"


def view(
    depth: Float[np.ndarray, "H W"],
    normal: Float[np.ndarray, "H W 3"] | None = None,
    fov: float | None = None,
    data_fov: float | None = None,
    depth_range: tuple[float, float] | None = None,
    valid: Bool[np.ndarray, "H W"] | None = None,
) -> View:
    """The camera of relative inverse depth, from what is known of it.

    Args:
      depth: relative inverse depth in [0, 1], 1 = nearest.
      normal: unit normals, from which what is not known is estimated. What they do not tell is assumed: 60 degrees, and
        the farthest distance 10 times the nearest one.
      fov: field of view of the width that a user gives, in degrees.
      data_fov: that of the data set, which counts if none is given.
      depth_range: metres at which relative inverse depth is 1 and 0.
      valid: pixels that count; all if None.

    Raises:
      UsageError: a field of view outside 1 to 170 degrees.
    """
    known_fov, fov_is = (data_fov, OF_DATA) if fov is None else (fov, GIVEN)
    near, known_far = (1.0, None) if depth_range is None else (depth_range[0], depth_range[1] / depth_range[0])
    if known_fov is not None:
        Camera(known_fov)  # refuses what is not allowed
    there = np.ones(depth.shape, bool) if valid is None else valid
    found = None if normal is None else _Agreement.of(depth, normal, there).best(known_fov, known_far)
    if normal is not None and found is None and known_fov is None and known_far is None:
        known_fov, fov_is = FOV, ASSUMED
        found = _Agreement.of(depth, normal, there).best(FOV, None)
    fov_is = fov_is if known_fov is not None else ESTIMATED if found else ASSUMED
    range_is = OF_DATA if known_far is not None else ESTIMATED if found else ASSUMED
    best_fov, far = found or (known_fov or FOV, known_far or FAR)
    return View(Camera(best_fov, near, near * far), fov_is, range_is)


@dataclass(frozen=True)
class _Agreement:
    """How well depth and normals agree for a camera: entries of P blocks of pixels.

    Attributes:
      slopes: of depth along x and y, [P, 2].
      level: d - x d_x - y d_y, [P].
      normal: unit normals [P, 3].
    """

    slopes: np.ndarray
    level: np.ndarray
    normal: np.ndarray

    @classmethod
    def of(cls, depth: np.ndarray, normal: np.ndarray, valid: np.ndarray) -> _Agreement:
        height, width = depth.shape
        numbers = np.where(valid, np.asarray(depth, np.float64), 0)
        # Inverse depth is affine on a plane, and so is its mean over blocks, in which the waves of networks are small.
        side = max(1, min(height, width) // _BLOCKS)
        x_y = _means(rays(height, width, 90.0)[..., :2], side)
        kept, d = _means(valid[..., None], side)[..., 0] == 1, _means(numbers[..., None], side)[..., 0]
        right, down = plane_slopes(d, level(numbers, valid) / side, kept)
        slopes = np.stack([right, -down], -1) * width / 2 / side
        units = pixels.normalise(_means(np.where(valid[..., None], np.asarray(normal, np.float64), 0), side))
        return cls(slopes[kept], (d - (x_y * slopes).sum(-1))[kept], units[kept])

    def difference(self, k: float, shift: float) -> np.ndarray:
        """Differences of unit vectors [3 P], between the normals and those that follow from depth."""
        vectors = np.concatenate([-k * self.slopes, (self.level + shift)[:, None]], -1)
        return (pixels.normalise(vectors) - self.normal).ravel()

    def best(self, fov: float | None, far: float | None) -> tuple[float, float] | None:
        """Field of view, and farthest distance in multiples of the nearest, of which None are to be found.

        None if normals do not tell them.
        """
        unknown = [fov is None, far is None]
        if not any(unknown) or not len(self.level):
            return None
        bounds = np.log([[_focal(f) for f in _FOVS], [_shift(f) for f in _FARS]])[:, ::-1]
        start = np.log([_focal(fov or FOV), _shift(far or FAR)])

        def whole(p: np.ndarray) -> np.ndarray:
            values = start.copy()
            values[unknown] = p
            return np.exp(values)

        low, high = bounds[unknown].T
        p, (scale, least) = start[unknown], _SCALE
        for _ in range(_FITS):
            fit = optimize.least_squares(
                lambda p: self.difference(*whole(p)), p, bounds=(low, high), loss="cauchy", f_scale=scale
            )
            p, scale = fit.x, max(float(np.median(np.abs(self.difference(*whole(fit.x))))), least)
        told = np.linalg.svd(fit.jac, compute_uv=False)[-1] / np.sqrt(len(self.level))
        margin = 0.01 * (high - low)
        if told < _TOLD or (fit.x < low + margin).any() or (fit.x > high - margin).any():
            return None
        k, shift = whole(fit.x)
        return float(np.degrees(2 * np.arctan(1 / k))), float(1 + 1 / shift)


def _means(values: np.ndarray, side: int) -> np.ndarray:
    """Means [H', W', C] over square blocks of values [H, W, C]; a rest at the lower and right edge is left out."""
    height, width = (n // side for n in values.shape[:2])
    blocks = values[: height * side, : width * side].reshape(height, side, width, side, -1)
    return blocks.mean((1, 3))


def _focal(fov: float) -> float:
    return float(1 / np.tan(np.radians(fov / 2)))


def _shift(far: float) -> float:
    """b of q = d + b, for which q is proportional to 1/z with z = 1 at d = 1 and `far` at d = 0."""
    return 1 / (far - 1)
