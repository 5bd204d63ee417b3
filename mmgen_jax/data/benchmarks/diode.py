"""DIODE (Vasiljevic et al. 2019): NAME.png, NAME_depth.npy in metres and NAME_depth_mask.npy, in folders of scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmgen_jax.data.benchmarks.scene import Benchmark, DepthScene, Scenes, array, colours
from mmgen_jax.system.errors import UsageError

_DEPTH = "_depth.npy"


def _open(root: Path, chosen: str) -> Scenes:
    """All images below the root, which is the folder val, or its indoors or outdoor; or those of the list."""
    if chosen:
        raise UsageError("--list is given, but DIODE is scored on all images of the folder; leave it out")
    found = sorted(path for path in root.rglob(f"*{_DEPTH}"))
    if not found:
        raise UsageError(f"--root {root} has no files *{_DEPTH}")
    stems = [str(path.relative_to(root)).removesuffix(_DEPTH) for path in found]

    def load(i: int) -> DepthScene:
        depth = array(root / f"{stems[i]}{_DEPTH}").astype(np.float32)
        mask = array(root / f"{stems[i]}_depth_mask.npy", depth.shape)
        rgb = colours(root / f"{stems[i]}.png", depth.shape)
        return DepthScene(rgb, depth, (mask > 0) & np.isfinite(depth))

    return Scenes(tuple(stems), load)


DIODE = Benchmark(0.6, 350, "all images below the folder (771 of val), pixels of its masks, 0.6 to 350 m", _open)
