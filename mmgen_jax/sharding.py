"""The mesh over all devices, and where arrays live on it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mmgen_jax.errors import UsageError


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """One axis, `data`, over `devices` (default: all of all hosts)."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The leading axis split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(batch: int, mesh: Mesh, name: str = "train.batch") -> None:
    """Raises UsageError unless the global batch can be split over the devices."""
    if batch < 1 or batch % mesh.size:
        raise UsageError(f"{name} is {batch}; it must be a positive multiple of the number of devices, {mesh.size}")


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch -> global arrays, split over `data`."""
    return {k: jax.make_array_from_process_local_data(batched(mesh), v) for k, v in batch.items()}
