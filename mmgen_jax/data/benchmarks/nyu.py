"""NYUv2 (Silberman et al. 2012): nyu_depth_v2_labeled.mat and splits.mat, as its page has them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from mmgen_jax.data.benchmarks.matlab import matlab
from mmgen_jax.data.benchmarks.scene import Benchmark, DepthScene, Scenes, box, existing
from mmgen_jax.system.errors import UsageError

_ROWS, _COLUMNS = (45, 471), (41, 601)  # Eigen's crop of 480 x 640 pixels
_NAMES = ("images", "rawDepths")


def _open(root: Path, chosen: str) -> Scenes:
    """The 654 images of the test split. Depth is that of the sensor; the data set's own holes are not filled."""
    if chosen:
        raise UsageError("--list is given, but NYUv2 has its split in splits.mat; leave it out")
    file = existing(root, "nyu_depth_v2_labeled.mat")
    numbers = np.atleast_1d(matlab(existing(root, "splits.mat"), "testNdxs")).astype(int)
    try:
        with h5py.File(file) as stored:
            count = min(len(stored[name]) for name in _NAMES)
    except (OSError, KeyError) as error:
        raise UsageError(f"{file} is damaged or not the labelled data set: {error}") from error
    if not numbers.size or not 1 <= numbers.min() <= numbers.max() <= count:
        raise UsageError(f"{root / 'splits.mat'} has the numbers of images that {file.name}, with {count}, lacks")

    def load(i: int) -> DepthScene:
        with h5py.File(file) as stored:  # MATLAB's axes come in the opposite order
            rgb, depth = (np.asarray(stored[name][numbers[i] - 1]).T for name in _NAMES)
        return DepthScene(rgb, depth.astype(np.float32), (depth > 0) & box(depth.shape, _ROWS, _COLUMNS))

    return Scenes(tuple(f"{number:04d}" for number in numbers), load)


NYU = Benchmark(1e-3, 10, "test split of 654 images, Eigen's crop, depth of the sensor, 0.001 to 10 m", _open)
