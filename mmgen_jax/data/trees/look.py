"""Looks at the depth and the normals of tiles while they are made, and says what is hardly meant so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from mmgen_jax.modalities.conventions import FAR, Axes, DepthFiles
from mmgen_jax.modalities.geometry import central_slopes
from mmgen_jax.modalities.pixels import to_array

_SLIVER = 0.25  # share of the 16-bit range that depth should use at least
_OPPOSITE = -0.3  # correlation below which two directions are taken for opposite ones
_BETTER = 0.5  # by how much correlations with depth, and how far one component faces the camera, tell other axes


@dataclass
class Look:
    """What was seen of some tiles; those of others can be added.

    Attributes:
      tiles: number of tiles with each modality.
      holes: number of tiles of each modality in which pixels have no value.
      depth: smallest and largest number of depth.
      zeros: number of tiles whose depth file has zeros that may be holes, see `DepthFiles.doubts`.
      sums: of each component of normals, of its absolute value, and their number, [3, 3].
      slopes: sums of products [5, 5] of the components of normals and the x and y of the direction that depth falls in,
        over pixels; depth of any scale tells which components are x and y, and their signs.
    """

    tiles: dict[str, int] = field(default_factory=dict)
    holes: dict[str, int] = field(default_factory=dict)
    depth: tuple[int, int] = (65535, 0)
    zeros: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    slopes: np.ndarray = field(default_factory=lambda: np.zeros((5, 5)))

    def add(self, other: Look) -> None:
        for own, others in ((self.tiles, other.tiles), (self.holes, other.holes)):
            for m, count in others.items():
                own[m] = own.get(m, 0) + count
        self.depth = min(self.depth[0], other.depth[0]), max(self.depth[1], other.depth[1])
        self.zeros += other.zeros
        self.sums, self.slopes = self.sums + other.sums, self.slopes + other.slopes

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
        squares = np.diag(self.slopes)
        scale = np.sqrt(np.outer(squares[:3], squares[3:]))
        agree = self.slopes[:3, 3:] / np.where(scale > 0, scale, 1)
        mean = self.sums[0] / np.maximum(self.sums[2], 1)
        order = self._order(np.abs(agree))
        parts = (agree[order[0], 0], agree[order[1], 1])
        flipped = [bool(value) for value in (parts[0] < _OPPOSITE, parts[1] < _OPPOSITE, mean[order[2]] < 0)]
        found = Axes(",".join("-" * turned + "xyz"[i] for i, turned in zip(order, flipped, strict=True)))
        turned = axes.then(found).text
        if order != (0, 1, 2):
            words = ", ".join(f"{'xyz'[i]} is {a}" for a, i in zip(found.text.split(","), range(3), strict=True))
            return [f"axes of normals are not those that depth tells ({words}); --normal_axes={turned} mends them"]
        if flipped == [True, True, False]:
            other = "near" if files.largest == FAR else "far"
            return [
                f"x and y of normals are the reverse of what depth tells (correlation {parts[0]:.2f}, {parts[1]:.2f}): "
                f"depth is upside down (--depth_is={other}), or normals are (--normal_axes={turned})"
            ]
        wrong = [(axis, part) for axis, part, bad in zip("xy", parts, flipped, strict=False) if bad]
        reasons = [f"{axis} is the reverse of what depth tells (correlation {part:.2f})" for axis, part in wrong]
        reasons += [f"they face away from the camera (mean z {mean[2]:.2f})"] if flipped[2] else []
        return [f"normals are mirrored: {', '.join(reasons)}; --normal_axes={turned} turns them"] if reasons else []

    def _order(self, agree: np.ndarray) -> tuple[int, ...]:
        """Which components of normals are x, y and z: (0, 1, 2), unless depth tells clearly that others are.

        `agree` [3, 2] says how far each component goes with the x and y of the direction that depth falls in, 0 to 1.
        The third one is of one sign, as no visible surface faces away.
        """
        facing = np.abs(self.sums[0]) / np.maximum(self.sums[1], 1e-9)
        told = {(i, j, k): agree[i, 0] + agree[j, 1] + facing[k] for i, j, k in itertools.permutations(range(3))}
        best = max(told, key=lambda order: told[order])
        clear = min(agree[best[0], 0], agree[best[1], 1]) > -_OPPOSITE and told[best] > told[0, 1, 2] + _BETTER
        return best if clear else (0, 1, 2)


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
        there = normal[known["normal"]].astype(np.float64)
        found.sums = np.stack([there.sum(0), np.abs(there).sum(0), np.full(3, len(there))])
        if "depth" in tile:
            found.slopes = _slopes(tile["depth"][..., 0], normal, known["depth"], known["normal"])
    return found


def _slopes(depth: np.ndarray, normal: np.ndarray, known: np.ndarray, has_normal: np.ndarray) -> np.ndarray:
    """`Look.slopes` of one tile. Jumps between objects count no more than the steeper surfaces."""
    where = ndimage.binary_erosion(known, np.ones((3, 3))) & has_normal
    right, down = central_slopes(depth.astype(np.float64))
    values = [*np.moveaxis(normal[where].astype(np.float64), -1, 0)]
    for g in (-right[where], down[where]):
        steep = np.quantile(np.abs(g), 0.9) if g.size else 0
        values.append(np.clip(g / steep, -1, 1) if steep > 0 else np.zeros_like(g))
    return np.stack(values) @ np.stack(values).T
