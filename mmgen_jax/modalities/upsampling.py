"""Joint bilateral upsampling (Kopf et al. 2007): small results at the size of a photo, with its edges."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mmgen_jax.modalities import pixels

_COLOR = 0.1  # distance of colours in [0, 1] that counts as little
_LEAST = 1e-3  # share of the weight that any colour has, for pixels that are like none of those around them
_ROWS = 2**18  # pixels that are computed at once, about


@dataclass(frozen=True)
class Upsampler:
    """Turns planes [h, w, C] into [H, W, C], guided by a photo: pixels take after those near them of like colour.

    The 4 x 4 nearest pixels count, with a weight that falls linearly to 0 within two pixels each way, so that a plane
    stays a plane where the photo has one colour, times a Gaussian of the distance of colours.

    Attributes:
      guide: photo uint8 [H, W, 3].
      height, width: size h, w of the planes.
    """

    guide: np.ndarray
    height: int
    width: int

    def mean(self, planes: np.ndarray) -> np.ndarray:
        """Weighted means, float32 [H, W, C]."""
        parts = []
        for rows, columns, weights in self._taps():
            total = np.zeros((*weights.shape[1:], planes.shape[-1]), np.float32)
            for k, weight in enumerate(weights):
                total += weight[..., None] * planes[rows[k // 4][:, None], columns[k % 4]]
            parts.append(total / weights.sum(0)[..., None])
        return np.concatenate(parts)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The values [H, W, ...] with the largest weight: none that is not among `values` [h, w, ...]."""
        parts = []
        for rows, columns, weights in self._taps():
            best = weights.argmax(0)
            row = np.take_along_axis(np.stack(rows, 1), best // 4, 1)
            column = np.take_along_axis(np.stack(columns, 0), best % 4, 0)
            parts.append(values[row, column])
        return np.concatenate(parts)

    def _taps(self) -> Iterator[tuple[list[np.ndarray], list[np.ndarray], np.ndarray]]:
        """For some rows R at a time: four rows [R] and four columns [W] of the planes, and weights [16, R, W]."""
        height, width = self.guide.shape[:2]
        small = pixels.fitted(self.guide, (self.height, self.width)).astype(np.float32) / 255
        columns, across = _near(np.arange(width), width, self.width)
        step = max(1, _ROWS // width)
        for first in range(0, height, step):
            part = self.guide[first : first + step].astype(np.float32) / 255
            rows, down = _near(np.arange(first, first + len(part)), height, self.height)
            weights = np.empty((16, *part.shape[:2]), np.float32)
            for k, (i, j) in enumerate(itertools.product(range(4), repeat=2)):
                distance = np.square(part - small[rows[i][:, None], columns[j]]).sum(-1)
                alike = np.exp(-distance / (2 * _COLOR**2)) + _LEAST
                weights[k] = down[i][:, None] * across[j] * alike
            yield rows, columns, weights


def _near(index: np.ndarray, large: int, small: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The four positions of a small axis that are nearest to those of a large one, and their weights."""
    at = (index + 0.5) * small / large - 0.5
    taps = [np.floor(at).astype(int) + k for k in (-1, 0, 1, 2)]
    weights = [np.maximum(1 - np.abs(at - tap) / 2, 0).astype(np.float32) for tap in taps]
    return [np.clip(tap, 0, small - 1) for tap in taps], weights
