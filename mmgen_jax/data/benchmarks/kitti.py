"""KITTI (Geiger et al. 2012) with the improved depth of Uhrig et al. 2017, and Eigen's list of its test images."""

from __future__ import annotations

from pathlib import Path

from mmgen_jax.data.benchmarks.scene import Benchmark, DepthScene, Scenes, box, colours, existing, listed, whole_numbers
from mmgen_jax.system.errors import UsageError

_HEIGHT, _WIDTH = 352, 1216  # of the benchmark's crop: the lowest rows, the middle columns
_ROWS, _COLUMNS = (0.3324324, 0.91351351), (0.0359477, 0.96405229)  # Eigen's crop, as shares of that


def _open(root: Path, chosen: str) -> Scenes:
    """Lines of the list: RGB DEPTH [FOCAL], below the root, or depth below its train or val; None is skipped."""
    rows = [row for row in listed(chosen, 2) if row[1] != "None"]
    pairs = [
        (existing(root, rgb), existing(root, depth, f"val/{depth}", f"train/{depth}"))
        for rgb, depth in (row[:2] for row in rows)
    ]

    def load(i: int) -> DepthScene:
        depth, valid = whole_numbers(pairs[i][1], 256)
        rgb = colours(pairs[i][0])
        height, width = depth.shape
        if rgb.shape[:2] != depth.shape or height < _HEIGHT or width < _WIDTH:
            raise UsageError(f"{pairs[i][0]} and its depth have {rgb.shape[:2]} and {depth.shape} pixels; allowed: "
                             f"the same, at least {_HEIGHT} x {_WIDTH}")  # fmt: skip
        top, left = height - _HEIGHT, (width - _WIDTH) // 2
        part = slice(top, top + _HEIGHT), slice(left, left + _WIDTH)
        rows, columns = ((int(a * n), int(b * n)) for (a, b), n in ((_ROWS, _HEIGHT), (_COLUMNS, _WIDTH)))
        return DepthScene(rgb[part], depth[part], valid[part] & box((_HEIGHT, _WIDTH), rows, columns))

    return Scenes(tuple(row[0] for row in rows), load)


KITTI = Benchmark(
    1e-5,
    80,
    "Eigen's test images with improved depth (652), the benchmark's crop to 352 x 1216, Eigen's crop, up to 80 m",
    _open,
    listed=True,
)
