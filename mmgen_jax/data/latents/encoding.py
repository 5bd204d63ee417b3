"""Turns a stream of tiles into a stream of records of latents. The frozen networks run on batches over all devices."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

import grain.python as grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from mmgen_jax.data import pipeline
from mmgen_jax.data.latents.record import FEATURES, PIXELS, Layout, check_range
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.frozen.dino import Dino
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.parallel import sharding
from mmgen_jax.system.arrays import AnyArray

_AHEAD = 64  # number of tiles that are read ahead


class _ReadTile(grain.MapTransform):
    """Decodes a tile to pixels, class_id and present, and adds its key."""

    def __init__(self, select: pipeline.Select):
        self._select = select

    def map(self, record: dict) -> dict:
        return self._select.map(record) | {"key": record["key"].decode()}


class _Subset:
    """A source that consists of some entries of another one."""

    def __init__(self, source: grain.RandomAccessDataSource, indices: Sequence[int]):
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict:
        return self._source[self._indices[index]]


def read(
    source: grain.RandomAccessDataSource,
    indices: Sequence[int],
    select: pipeline.Select,
    *,
    mirror: bool,
) -> Generator[dict, None, None]:
    """Yields decoded tiles at `indices`, in this order; with `mirror`, each is followed by its mirror image.

    Close the iterator after use, which ends its threads. Threads are enough, as decoding releases Python's lock.
    """
    dataset = grain.MapDataset.source(_Subset(source, indices)).map(_ReadTile(select))
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=os.cpu_count() or 1, prefetch_buffer_size=_AHEAD))
    with contextlib.closing(iter(dataset)) as stream:
        for tile in stream:
            yield tile
            if mirror:
                yield pipeline.mirrored(tile, select.modalities) | {"key": tile["key"] + "#mirrored"}


@functools.partial(jax.jit, static_argnames="dtype")
def compute(
    autoencoder: Autoencoder, dino: Dino | None, pixels: Mapping[str, AnyArray], dtype: str
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Computes moments of each modality and features in `dtype`, and the largest magnitude of each in every sample."""
    images = {m: to_array(jnp.asarray(x)) for m, x in pixels.items()}
    values = dict(autoencoder.moments(images))
    if dino is not None:
        values[FEATURES] = dino(images["rgb"])
    peaks = {name: jnp.abs(x.astype(jnp.float32)).max(tuple(range(1, x.ndim))) for name, x in values.items()}
    return {name: x.astype(dtype) for name, x in values.items()}, peaks


def records(
    samples: Iterable[dict], layout: Layout, autoencoder: Autoencoder, dino: Dino | None, batch: int, mesh: Mesh
) -> Iterator[bytes]:
    """Turns samples of `read` into records. A batch is computed while the one before it is packed and written.

    Raises UsageError naming the tile if a number is not finite in the type that it is stored in.
    """
    samples, waiting = iter(samples), None
    while chunk := list(itertools.islice(samples, batch)):
        padded = chunk + chunk[-1:] * (batch - len(chunk))  # so that all batches have one shape and one program
        pixels = {m: np.stack([sample[m] for sample in padded]) for m, _ in layout.modalities}
        running = compute(autoencoder, dino, sharding.to_global(pixels, mesh), layout.dtype)
        if waiting:
            yield from _pack(*waiting, layout)
        waiting = chunk, running
    if waiting:
        yield from _pack(*waiting, layout)


def _pack(chunk: list[dict], computed: tuple[dict, dict], layout: Layout) -> Iterator[bytes]:
    values, peaks = jax.device_get(computed)
    for i, sample in enumerate(chunk):
        key, present = sample["key"], sample["present"]
        there = {m for (m, _), is_there in zip(layout.modalities, present, strict=True) if is_there}
        there |= {FEATURES} if "rgb" in there else set()
        check_range({name: float(peak[i]) for name, peak in peaks.items() if name in there}, layout.dtype, key)
        arrays = {name: value[i] for name, value in values.items()} | {PIXELS: sample.get("rgb")}
        valid = {key: sample[key] for key in map(holes.key, layout.holes)}
        arrays |= {key: holes.cells(x, layout.size).astype(np.uint8) for key, x in valid.items()}
        yield layout.encode(arrays, present, int(sample["class_id"]), key)
