"""Compares how fast stored latents are read: from this package's files, and from HDF5 files as the official code's.

python -m mmgen_jax.studies.reading

Both hold the same 2,000 random latents with the shapes of XL/2 and features, and both are read by the same Grain
pipeline in the same random order, in batches of 256. The HDF5 files hold float32, with one file per modality and one
data set per key. For comparison, tiles of rendered scenes at 256 pixels are read too, as training without latents does.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    flags.DEFINE_string("folder", None, "Folder for 2.8 GB of files, which are deleted; else that of temporary files.")
    command.parse()  # before the imports below, which take seconds

import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grain.python as grain
import h5py
import numpy as np
from etils import epath

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.data.latents import dataset, hdf5
from mmgen_jax.data.latents.record import FEATURES
from mmgen_jax.data.shapes import builder
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import files

SAMPLES, BATCH = 2000, 256
SHAPES = {m: (4, 32, 32, 2) for m in NAMES} | {FEATURES: (256, 768)}
FIRST, COUNT = 8, 24  # number of batches before timing begins, and number of timed batches
WORKERS = (0, 2)


class Official(grain.RandomAccessDataSource):
    """The official layout at random access. Each process opens the files itself; each key is looked up in each file."""

    def __init__(self, folder: Path):
        self._paths = {name: str(folder / f"{name}.h5") for name in SHAPES}
        self._keys = [json.loads(line)["path_rel_rgb"] for line in (folder / "train.jsonl").read_text().splitlines()]
        self._files: dict[str, h5py.File] | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_files": None}

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if self._files is None:
            self._files = {name: h5py.File(path, "r") for name, path in self._paths.items()}
        return {name: file[self._keys[index]][...] for name, file in self._files.items()}


def write_official(folder: Path) -> None:
    """Writes random numbers in the official layout: HDF5 files and their index."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    keys = [f"n{i % 100:08d}/image_{i:05d}.png" for i in range(SAMPLES)]
    for name, shape in SHAPES.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for key in keys:
                file.create_dataset(key, data=rng.normal(size=shape).astype(np.float32))
    lines = ({"cat": key[:9], "idx_cat": int(key[1:9]), "path_rel_rgb": key} for key in keys)
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def forget(folder: Path) -> None:
    """Drops files from the page cache, so that the next reading comes from the disk."""
    os.sync()
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def batches(
    source: grain.RandomAccessDataSource, transforms: Sequence[grain.MapTransform], workers: int
) -> Iterator[dict]:
    return pipeline.batches(source, transforms, BATCH, seed=0, workers=workers)


def steady(
    source: grain.RandomAccessDataSource,
    transforms: Sequence[grain.MapTransform],
    workers: int,
    first: int = FIRST,
    count: int = COUNT,
) -> float:
    """Samples/s after the start, with the files in memory."""
    stream = batches(source, transforms, workers)
    for _ in itertools.islice(stream, first):
        pass
    began = time.perf_counter()
    for _ in itertools.islice(stream, count):
        pass
    return count * BATCH / (time.perf_counter() - began)


def cold(source: grain.RandomAccessDataSource, transforms: Sequence[grain.MapTransform], folder: Path) -> float:
    """Samples/s of a first epoch, which reads from the disk."""
    forget(folder)
    began, count = time.perf_counter(), SAMPLES // BATCH
    for _ in itertools.islice(batches(source, transforms, 0), count):
        pass
    return count * BATCH / (time.perf_counter() - began)


def compare(folder: Path) -> None:
    official, ours = folder / "official", folder / "latents"
    write_official(official)
    began = time.perf_counter()
    paths = {name: str(official / f"{name}.h5") for name in SHAPES}
    hdf5.convert(str(official / "train.jsonl"), paths, str(ours), shard=512)
    print(f"imported at {SAMPLES / (time.perf_counter() - began):.0f} samples/s\n")
    layout = dataset.read_info(ours).layout
    kinds: dict[str, tuple[Any, tuple, Path, int]] = {
        "latents, float16": (dataset.read(ours, "train"), (dataset.Select(layout, NAMES, (FEATURES,)),), ours, 2),
        "HDF5, float32": (Official(official), (), official, 4),
    }
    numbers = sum(int(np.prod(shape)) for shape in SHAPES.values())
    print(f"{'':<18}{'workers':<18}{'samples/s':>10}{'MB/s':>8}{f'steps/s of {BATCH}':>17}")
    rates = {}
    for name, (source, transforms, where, itemsize) in kinds.items():
        cases = {"0, from disk": cold(source, transforms, where)}
        cases |= {f"{n}, from memory": steady(source, transforms, n) for n in WORKERS}
        for case, rate in cases.items():
            print(f"{name:<18}{case:<18}{rate:>10.0f}{rate * numbers * itemsize / 1e6:>8.0f}{rate / BATCH:>17.2f}")
        rates[name] = cases
    new, old = rates.values()
    directory = builder.build(str(folder / "tiles"), builder.Recipe(size=256, train=BATCH, test=1))
    source, transforms = tiles.read_tiles(directory, "train"), (pipeline.Select(NAMES, 256),)
    print("\ntiles of 256 pixels, four PNG each:", end="")
    print(", ".join(f" {steady(source, transforms, n, 2, 4):.0f} samples/s with {n} workers" for n in WORKERS))
    print("\nsamples/s, latents over HDF5: " + ", ".join(f"{case} {new[case] / old[case]:.2f}" for case in new))


def main(argv: list[str]) -> None:
    del argv
    place = flags.FLAGS.folder or tempfile.gettempdir()
    files.check_place(files.here(place, "--folder"), "--folder", folder=True)
    epath.Path(place).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        compare(Path(folder))


if __name__ == "__main__":
    command.run(main)
