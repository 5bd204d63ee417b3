"""The mesh over all devices, and which part of every array lives on which device.

The mesh has three axes. `data` and `fsdp` split the batch. `fsdp` and `tensor` split parameters, their averages and the
optimizer's moments as the rules below say.
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
      spec: for each of the last dimensions, the mesh axes that split it. Parameters of blocks are stacked and have one
        more dimension in front, which is not split.
      whole: those of the axes over which the parts are gathered before the parameter is used. Over the others, every
        device computes with its own part.
    """

    pattern: str
    spec: tuple[str | tuple[str, ...] | None, ...]
    whole: tuple[str, ...] = ("fsdp",)


# `fsdp` splits matrices by rows, as the parts are then contiguous, and as a width of 1152 = 9 x 128 cannot be split by
# columns over many devices without parts that are narrower than the 128 lanes of a TPU.
# `tensor` splits the columns of the MLP's first matrix, and the rows of matrices whose inputs are split. The fused q, k
# and v are stored by rows, and heads are picked after gathering, so that checkpoints do not depend on the mesh.
RULES = (
    Rule(r"blocks/qkv/kernel", (("fsdp", "tensor"), None), ("fsdp", "tensor")),
    Rule(r"blocks/qkv/bias", ("tensor",), ("tensor",)),
    Rule(r"blocks/(proj|fc2)/kernel", (("tensor", "fsdp"), None)),
    Rule(r"blocks/(fc1|gate)/kernel", ("fsdp", "tensor")),
    Rule(r"blocks/(fc1|gate)/bias", ("tensor",), ()),
    Rule(r"kernel", ("fsdp", None)),
)


def make_mesh(
    devices: Sequence[jax.Device] | None = None, data: int = -1, fsdp: int = 1, tensor: int = 1, *, key: str = "mesh"
) -> Mesh:
    """Makes the mesh over `devices` (default: those of all hosts). One size may be -1, which takes what is left.

    Only `data` crosses the slow network between several TPU pods. Raises UsageError, naming `key`, if the product of
    the sizes is not the number of devices, or if `data` is not a multiple of the number of pods.
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
    """Sharding of a batch: its leading axis is split over `data` and `fsdp`. A tensor group has the same samples."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def parts(mesh: Mesh) -> int:
    """Number of parts that a batch is split into."""
    return math.prod(mesh.shape[axis] for axis in BATCH)


def path_name(path: tuple) -> str:
    """Joins the path of a leaf, as jax.tree_util gives it, to a name such as "blocks/qkv/kernel"."""
    return "/".join(str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry)))) for entry in path)


def axes_of(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Mesh axes of one dimension, from an entry of a PartitionSpec."""
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def rule_of(path: tuple) -> Rule | None:
    """The first rule that matches the end of the path, or None if every device keeps the whole array."""
    name = path_name(path)
    return next((rule for rule in RULES if re.search(rf"(^|/)({rule.pattern})$", name)), None)


def spec_of(path: tuple, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """PartitionSpec of a leaf of the parameters, or of a tree with their paths, such as the optimizer's moments.

    A dimension whose size the axes do not divide is not split.
    """
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


def check_batch(batch: int, mesh: Mesh, name: str) -> None:
    """Raises UsageError unless the global batch can be split over the devices."""
    if batch < 1 or batch % parts(mesh):
        raise UsageError(f"{name} is {batch}; it must be a positive multiple of the number of devices, {parts(mesh)}")


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Makes global arrays, split over the devices, of this host's part of a batch."""
    # This copy is intended. Where several processes share the mesh, the training loop's guard would refuse it.
    with jax.transfer_guard_host_to_device("allow"):
        return {k: jax.make_array_from_process_local_data(batched(mesh), v) for k, v in batch.items()}


def batch_parts(mesh: Mesh) -> tuple[tuple[int, ...], int]:
    """Numbers of the parts of a global batch that this process reads, and the number of equal parts in all.

    Several processes read the same parts if they share a tensor group. On TPUs the devices of a host need not be
    neighbours in the mesh, so the parts of a process need not be neighbours either.
    """
    rows = mesh.devices.reshape(parts(mesh), -1)
    mine = [i for i, row in enumerate(rows) if any(d.process_index == jax.process_index() for d in row)]
    first, size = mine[0], len(mine)
    if mine == list(range(first, first + size)) and first % size == len(rows) % size == 0:
        return (first // size,), len(rows) // size  # neighbouring parts are read as one larger part
    return tuple(mine), len(rows)
