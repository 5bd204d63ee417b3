"""Patterns on surfaces: smooth waves of two coordinates in the space of the surface, so that they move with it.

One formula makes all of them. With u and v in radians, affine in the point, the share of the second colour is

    w = clip(0.5 + gain (a cos u' + b cos v + c cos u' cos v + offset), 0, 1),    u' = u + warp cos(0.7 v + cos 0.9 u)

A large gain makes soft steps instead of hard ones, which a few rays for each pixel sample without aliasing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# a, b, c, offset, gain, warp, and how many waves there are along u and v in the length that a pattern is given.
_ROWS = {
    "plain": (0, 0, 0, -1, 1, 0, 0, 0),
    "stripes": (1, 0, 0, 0, 3, 0, 1, 0),
    "bands": (0, 1, 0, 0, 3, 0, 0, 1),
    "checks": (0, 0, 1, 0, 4, 0, 0.75, 0.75),
    "dots": (1, 1, 0, -0.75, 2.2, 0, 1, 1),
    "marble": (0.7, 0, 0.3, 0, 1, 1.7, 0.7, 0.6),
    "clouds": (0.45, 0.35, 0.3, 0, 0.6, 1.2, 0.5, 0.55),
    "shade": (0, 1, 0, 0, 0.5, 0, 0, 0.2),
}
PATTERNS = tuple(_ROWS)
WAVES = np.array([row[:6] for row in _ROWS.values()], np.float32)
RATES = np.array([row[6:] for row in _ROWS.values()], np.float32)


@dataclass(frozen=True)
class Coats:
    """Patterns of the R surfaces of N scenes; vectors in camera space.

    Attributes:
      wave: [N, R, 6], a, b, c, offset, gain and warp.
      axes: [N, R, 2, 3], radians per metre of u and v.
      phase: [N, R, 2], radians of u and v at the camera.
      second: [N, R, 3], linear colour that patterns mix with the albedo of the surface.
      accent: [N, R, 3], linear colour of the parts of an object that `Solid.accent` names.
    """

    wave: np.ndarray
    axes: np.ndarray
    phase: np.ndarray
    second: np.ndarray
    accent: np.ndarray

    def share(self, scene: np.ndarray, surface: int, point: np.ndarray) -> np.ndarray:
        """Share of the second colour [K] at points [3, K] of one surface of the scenes [K]."""
        axes, phase = self.axes[:, surface].transpose(1, 2, 0), self.phase[:, surface].T
        u, v = (
            axes[i, 0][scene] * point[0] + axes[i, 1][scene] * point[1] + axes[i, 2][scene] * point[2] + phase[i][scene]
            for i in range(2)
        )
        a, b, c, offset, gain, warp = (part[scene] for part in self.wave[:, surface].T)
        along = np.cos(u + warp * np.cos(np.float32(0.7) * v + np.cos(np.float32(0.9) * u)))
        across = np.cos(v)
        return np.clip(np.float32(0.5) + gain * (along * (a + c * across) + b * across + offset), 0, 1)
