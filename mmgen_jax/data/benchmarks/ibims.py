"""iBims-1 (Koch et al. 2018): imagelist.txt and a .mat file for each image, in the folder of ibims1_core_mat."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmgen_jax.data.benchmarks.matlab import matlab
from mmgen_jax.data.benchmarks.scene import Benchmark, DepthScene, Scenes, existing, listed
from mmgen_jax.system.errors import UsageError


def _open(root: Path, chosen: str) -> Scenes:
    """The 100 images of imagelist.txt, or those of another list of names."""
    names = [row[0] for row in listed(chosen or str(existing(root, "imagelist.txt")), 1)]
    paths = [existing(root, f"{name}.mat", f"ibims1_core_mat/{name}.mat") for name in names]

    def load(i: int) -> DepthScene:
        data = matlab(paths[i], "data")
        try:
            rgb, depth = np.asarray(data.rgb), np.asarray(data.depth, np.float32)
            masks = [np.asarray(mask) > 0 for mask in (data.mask_invalid, data.mask_transp)]
        except AttributeError as error:
            raise UsageError(f"{paths[i]} is not of iBims-1: {error}") from error
        if rgb.dtype != np.uint8 or any(x.shape != rgb.shape[:2] for x in (depth, *masks)) or rgb.shape[2:] != (3,):
            raise UsageError(f"{paths[i]}: rgb is {rgb.dtype} {rgb.shape} and depth {depth.shape}; allowed: one size")
        return DepthScene(rgb, depth, masks[0] & masks[1] & (depth > 0))

    return Scenes(tuple(names), load)


IBIMS = Benchmark(1e-3, 50, "its 100 images, without invalid and transparent pixels, up to 50 m", _open)
