"""Looks at the depth and the normals of tiles while they are made, and says what is hardly meant so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from mmgen_jax.modalities.conventions import FAR, Axes, DepthFiles
from mmgen_jax.modalities.geometry import central_slopes
from mmgen_jax.modalities.pixels import to_array

_SLIVER = 0.25  # share of the 16-bit range that depth should use at least
_OPPOSITE = -0.3  # correlation below which two directions are taken for opposite ones


@dataclass
class Look:
    """What was seen of some tiles; those of others can be added.

    Attributes:
      tiles: number of tiles with each modality.
      holes: number of tiles of each modality in which pixels have no value.
      depth: smallest and largest number of depth.
      zeros: number of tiles whose depth file has zeros that may be holes, see `DepthFiles.doubts`.
      z: sum of the z components of normals, and their number.
      slopes: for x and y, sums of n g, n n and g g over pixels, with components n of normals and directions g that
        depth falls in; depth of any scale tells their signs.
    """

    tiles: dict[str, int] = field(default_factory=dict)
    holes: dict[str, int] = field(default_factory=dict)
    depth: tuple[int, int] = (65535, 0)
    zeros: int = 0
    z: tuple[float, int] = (0.0, 0)
    slopes: np.ndarray = field(default_factory=lambda: np.zeros((2, 3)))

    def add(self, other: Look) -> None:
        for own, others in ((self.tiles, other.tiles), (self.holes, other.holes)):
            for m, count in others.items():
                own[m] = own.get(m, 0) + count
        self.depth = min(self.depth[0], other.depth[0]), max(self.depth[1], other.depth[1])
        self.zeros += other.zeros
        self.z = self.z[0] + other.z[0], self.z[1] + other.z[1]
        self.slopes = self.slopes + other.slopes

    def lines(self, files: DepthFiles, axes: Axes) -> list[str]:
        """What should be said of a whole data set that was read with these conventions."""
        found = [
            f"{m} has pixels without a value in {count} of {self.tiles[m]} tiles; they count in no loss and no score"
            for m, count in self.holes.items()
        ]
        if files.invalid is not None and "depth" in self.tiles and "depth" not in self.holes:
            found.append(f"no pixel of depth is {files.invalid:g} in any tile, which --depth_invalid says has no value")
        low, high = self.depth
        if low <= high and high - low < _SLIVER * 65535:
            found.append(
                f"depth uses {(high - low) / 65535:.0%} of its 16 bits ({low} to {high}), which trains badly; "
                "--depth_range=NEAR,FAR says which of the files' numbers are to become the nearest and the farthest"
            )
        if self.zeros:
            found.append(
                f"many pixels of depth are 0, and none is near that, in {self.zeros} of {self.tiles['depth']} files; "
                "if 0 means that nothing was measured, say --depth_invalid=0"
            )
        return found + self._directions(files, axes)

    def _directions(self, files: DepthFiles, axes: Axes) -> list[str]:
        products = self.slopes[:, 1] * self.slopes[:, 2]
        agree = self.slopes[:, 0] / np.sqrt(np.where(products > 0, products, 1))
        wrong = [axis for axis, value in zip("xy", agree, strict=True) if value < _OPPOSITE]
        z = self.z[0] / max(self.z[1], 1)
        if wrong == ["x", "y"] and z > 0:
            other = "near" if files.largest == FAR else "far"
            return [
                f"x and y of normals are the reverse of what depth tells (correlation {agree[0]:.2f}, {agree[1]:.2f}): "
                f"depth is upside down (--depth_is={other}), or normals are (--normal_axes={axes.turned('xy').text})"
            ]
        reasons = [f"{a} is the reverse of what depth tells (correlation {agree['xy'.index(a)]:.2f})" for a in wrong]
        reasons += [f"they face away from the camera (mean z {z:.2f})"] if z < 0 else []
        turned = axes.turned("".join(wrong) + ("z" if z < 0 else "")).text
        return [f"normals are mirrored: {', '.join(reasons)}; --normal_axes={turned} turns them"] if reasons else []


def look(tile: Mapping[str, np.ndarray], holes: Mapping[str, np.ndarray], doubts: bool) -> Look:
    """Looks at the pixels of one tile.

    `holes` are bool [H, W] of the modalities with pixels without a value; `doubts` says whether zeros of its depth file
    may be holes.
    """
    found = Look(dict.fromkeys(tile, 1), {m: 1 for m, hole in holes.items() if hole.any()}, zeros=int(doubts))
    known = {m: ~holes[m] if m in holes else np.ones(x.shape[:2], bool) for m, x in tile.items()}
    if "depth" in tile and known["depth"].any():
        there = tile["depth"][..., 0][known["depth"]]
        found.depth = int(there.min()), int(there.max())
    if "normal" in tile:
        normal = to_array(tile["normal"])
        found.z = float(normal[..., 2][known["normal"]].sum()), int(known["normal"].sum())
        if "depth" in tile:
            found.slopes = _slopes(tile["depth"][..., 0], normal, known["depth"], known["normal"])
    return found


def _slopes(depth: np.ndarray, normal: np.ndarray, known: np.ndarray, has_normal: np.ndarray) -> np.ndarray:
    """`Look.slopes` of one tile. Jumps between objects count no more than the steeper surfaces."""
    where = ndimage.binary_erosion(known, np.ones((3, 3))) & has_normal
    right, down = central_slopes(depth.astype(np.float64))
    sums = np.zeros((2, 3))
    for i, g in enumerate((-right, down)):
        n, g = normal[..., i][where].astype(np.float64), g[where]
        steep = np.quantile(np.abs(g), 0.9) if g.size else 0
        if steep > 0:
            g = np.clip(g / steep, -1, 1)
            sums[i] = (n * g).sum(), (n * n).sum(), (g * g).sum()
    return sums
