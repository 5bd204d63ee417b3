"""All benchmarks by the names that commands take."""

from __future__ import annotations

from mmgen_jax.data.benchmarks.diode import DIODE
from mmgen_jax.data.benchmarks.ibims import IBIMS
from mmgen_jax.data.benchmarks.kitti import KITTI
from mmgen_jax.data.benchmarks.nyu import NYU
from mmgen_jax.data.benchmarks.scannet import SCANNET
from mmgen_jax.data.benchmarks.scene import Scenes, folder
from mmgen_jax.system.errors import UsageError, choice

BENCHMARKS = {"nyuv2": NYU, "kitti": KITTI, "scannet": SCANNET, "diode": DIODE, "ibims": IBIMS}


def opened(name: str, root: str, chosen: str = "") -> Scenes:
    """The scenes of a benchmark below a folder; `chosen` is a file that lists them. Raises UsageError."""
    found = BENCHMARKS[choice("--benchmark", name, BENCHMARKS)]
    place = folder(root)
    if found.listed and not chosen:
        raise UsageError(f"--list is not given; {name} needs the file that lists its images: RGB DEPTH in each line")
    return found.open(place, chosen)
