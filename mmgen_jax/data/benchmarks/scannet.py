"""ScanNet (Dai et al. 2017), exported: SCENE/color/N.jpg and SCENE/depth/N.png in millimetres."""

from __future__ import annotations

from pathlib import Path

from mmgen_jax.data.benchmarks.scene import Benchmark, DepthScene, Scenes, colours, existing, listed, whole_numbers


def _open(root: Path, chosen: str) -> Scenes:
    """Lines of the list: RGB DEPTH, paths below the root. Images have the size of their depth, 480 x 640."""
    rows = listed(chosen, 2)
    pairs = [(existing(root, rgb), existing(root, depth)) for rgb, depth in (row[:2] for row in rows)]

    def load(i: int) -> DepthScene:
        depth, valid = whole_numbers(pairs[i][1], 1000)
        return DepthScene(colours(pairs[i][0], depth.shape), depth, valid)

    return Scenes(tuple(row[0] for row in rows), load)


SCANNET = Benchmark(
    1e-3, 10, "the images of the list (800 of the validation set in Marigold), 0.001 to 10 m", _open, True
)
