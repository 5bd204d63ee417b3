"""The mesh over all devices, and which part of every array lives where on it.

Three axes: `data` and `fsdp` split the batch, `fsdp` and `tensor` split what the rules below say of the parameters,
their averages and the optimizer's moments.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import tree_map_with_path

from mmgen_jax.system.errors import UsageError

AXES = ("data", "fsdp", "tensor")
BATCH = ("data", "fsdp")  # axes that split the batch


@dataclass(frozen=True)
class Rule:
    """How parameters with a certain name are split over the mesh.

    Attributes:
      pattern: regular expression that the end of a parameter's path must match.
      spec: mesh axes of each of the last dimensions. Stacked blocks have one more in front, which is not split.
      whole: those of these axes over which the parts are gathered again before a matrix multiplication uses them.
    """

    pattern: str
    spec: tuple[str | tuple[str, ...] | None, ...]
    whole: tuple[str, ...] = ("fsdp",)


# Rows of matrices are what `fsdp` splits: they are contiguous, and 1152 = 16 x 72 has more factors than lanes allow.
# `tensor` splits columns of the MLP's first matrix and rows of matrices whose inputs are split. The fused q, k, v are
# stored by rows and their heads picked after gathering, so that checkpoints do not depend on the mesh.
RULES = (
    Rule(r"blocks/qkv/kernel", (("fsdp", "tensor"), None), ("fsdp", "tensor")),
    Rule(r"blocks/qkv/bias", ("tensor",), ("tensor",)),
    Rule(r"blocks/(proj|fc2)/kernel", (("tensor", "fsdp"), None)),
    Rule(r"blocks/fc1/kernel", ("fsdp", "tensor")),
    Rule(r"blocks/fc1/bias", ("tensor",), ()),
    Rule(r"kernel", ("fsdp", None)),
)


def make_mesh(
    devices: Sequence[jax.Device] | None = None, data: int = -1, fsdp: int = 1, tensor: int = 1, *, key: str = "mesh"
) -> Mesh:
    """Mesh of the three axes over `devices` (default: those of all hosts). One size may be -1, which takes the rest.

    Only `data` crosses the slow network between several TPU pods. Raises UsageError, naming `key`, if the sizes
    do not multiply to the number of devices, or `data` is not a multiple of the number of pods.
    """
    devices = jax.devices() if devices is None else devices
    sizes = dict(zip(AXES, (data, fsdp, tensor), strict=True))
    open_axes = [axis for axis, size in sizes.items() if size == -1]
    known = math.prod(size for size in sizes.values() if size != -1)
    shown = ", ".join(f"{axis}={size}" for axis, size in sizes.items())
    if len(open_axes) > 1:
        raise UsageError(f"config section {key} has {shown}; at most one may be -1")
    if known < 1 or len(devices) % known or (not open_axes and known != len(devices)):
        raise UsageError(f"config section {key} has {shown}; the product must be the number of devices, {len(devices)}")
    for axis in open_axes:
        sizes[axis] = len(devices) // known
    pods = len({getattr(device, "slice_index", 0) for device in devices}) if devices[0].platform == "tpu" else 1
    if sizes["data"] % pods:
        raise UsageError(
            f"config key {key}.data is {sizes['data']} for {pods} pods; it must be a multiple of them, as the network "
            "between pods is slow"
        )
    auto = (jax.sharding.AxisType.Auto,) * len(AXES)
    if pods == 1:
        return jax.make_mesh(tuple(sizes.values()), AXES, axis_types=auto, devices=devices)
    within = (sizes["data"] // pods, sizes["fsdp"], sizes["tensor"])
    return Mesh(mesh_utils.create_hybrid_device_mesh(within, (pods, 1, 1), devices), AXES, axis_types=auto)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
    """The leading axis split over `data` and `fsdp`; the devices of a tensor group have the same samples."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def parts(mesh: Mesh) -> int:
    """Number of parts that a batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH)


def path_name(path: tuple) -> str:
    """Path of a leaf as jax.tree_util gives it -> "blocks/qkv/kernel"."""
    return "/".join(str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry)))) for entry in path)


def axes_of(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Mesh axes of one dimension, from an entry of a PartitionSpec."""
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def rule_of(path: tuple) -> Rule | None:
    """The first rule that matches the end of the path, or None if every device keeps the whole array."""
    name = path_name(path)
    return next((rule for rule in RULES if re.search(rf"(^|/)({rule.pattern})$", name)), None)


def spec_of(path: tuple, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """Spec of a leaf of parameters, or of anything with their paths; sizes that axes do not divide stay whole."""
    rule = rule_of(path)
    if rule is None or len(shape) < len(rule.spec):
        return PartitionSpec()
    spec: list = [None] * len(shape)
    for dimension, axes in enumerate(rule.spec, len(shape) - len(rule.spec)):
        names = tuple(axis for axis in axes_of(axes) if mesh.shape[axis] > 1)
        for kept in (names, tuple(axis for axis in names if axis == "tensor")):
            if kept and shape[dimension] % math.prod(mesh.shape[axis] for axis in kept) == 0:
                spec[dimension] = kept
                break
    return PartitionSpec(*spec)


def state_shardings(mesh: Mesh, abstract):
    """NamedSharding of every leaf of a train state, of parameters, or of anything else with their paths."""
    return tree_map_with_path(lambda path, leaf: NamedSharding(mesh, spec_of(path, leaf.shape, mesh)), abstract)


def check_batch(batch: int, mesh: Mesh, name: str = "train.batch") -> None:
    """Raises UsageError unless the global batch can be split over the devices."""
    if batch < 1 or batch % parts(mesh):
        raise UsageError(f"{name} is {batch}; it must be a positive multiple of the number of devices, {parts(mesh)}")


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This host's part of a batch -> global arrays, split over the devices."""
    # This transfer is meant; where several processes share the mesh, a guard would take it for an accident.
    with jax.transfer_guard_host_to_device("allow"):
        return {k: jax.make_array_from_process_local_data(batched(mesh), v) for k, v in batch.items()}


def batch_parts(mesh: Mesh) -> tuple[tuple[int, ...], int]:
    """Which parts of a global batch the devices of this process compute, and into how many equal parts it is split.

    Several processes have the same parts where an axis that does not split the batch goes across them. On TPUs the
    devices of a host need not be neighbours in the mesh.
    """
    rows = mesh.devices.reshape(parts(mesh), -1)
    mine = [i for i, row in enumerate(rows) if any(d.process_index == jax.process_index() for d in row)]
    first, size = mine[0], len(mine)
    if mine == list(range(first, first + size)) and first % size == len(rows) % size == 0:
        return (first // size,), len(rows) // size  # one larger part
    return tuple(mine), len(rows)
