"""The network on a mesh: what each device computes, and what devices tell each other.

Everything is explicit in one `shard_map`: a block's weights are gathered over `fsdp` in the compute type right before
their use, so that one block is whole at a time (FSDP), gradients go back by reduce-scatters, and the members of a
`tensor` group split heads and MLP (Shoeybi et al. 2019). What follows from annotations alone was slower by a factor of
two and more on TPUs: see docs/tpu-performance.md.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import tree_map_with_path

from mmgen_jax import sharding
from mmgen_jax.architecture import Architecture, Params
from mmgen_jax.errors import UsageError
from mmgen_jax.models.placement import Placement

LARGEST_SCATTER = 8  # devices; over more, the TPU compiler makes an all-reduce of a reduce-scatter
ON_BATCH = PartitionSpec(sharding.BATCH)


@dataclass(frozen=True)
class Layout:
    """An architecture on a mesh.

    Raises UsageError if the tensor axis does not divide heads and MLP.
    """

    architecture: Architecture
    mesh: Mesh

    def __post_init__(self):
        model, members = self.architecture.model, self.members
        for name, size in (("heads", model.heads), ("hidden width of the MLP", model.mlp_width)):
            if size % members:
                raise UsageError(f"config key mesh.tensor is {members}; it must divide the {name}, {size}")

    @property
    def members(self) -> int:
        return self.mesh.shape["tensor"]

    @functools.cached_property
    def specs(self) -> Params:
        """PartitionSpec of every parameter."""
        shapes = jax.eval_shape(self.architecture.init, jax.random.key(0))
        return tree_map_with_path(lambda path, leaf: sharding.spec_of(path, leaf.shape, self.mesh), shapes)

    def apply(self, params: Params, x, t, class_id, task):
        """`Architecture.apply` on global arrays: batches split over the devices, parameters as `specs` says."""
        return jax.shard_map(
            self._local,
            mesh=self.mesh,
            in_specs=(self.specs, ON_BATCH, ON_BATCH, ON_BATCH, ON_BATCH),
            out_specs=ON_BATCH,
            check_vma=False,
        )(params, x, t, class_id, task)

    def gradients(self, local: Callable[..., tuple[Params, Any]], params: Params, example: Any) -> tuple[Params, Any]:
        """Gradients and metrics of a loss that is a sum over samples.

        Args:
          local: (apply, params, example) -> gradients and metrics of the samples of one device; `apply` has the
            signature of `Architecture.apply`, on local arrays.
          params: global, as `specs` says.
          example: global arrays whose leading axis is the batch.

        Returns:
          the sums over all samples: gradients as `specs` says, metrics on every device.
        """

        def summed(params: Params, example: Any) -> tuple[Params, Any]:
            grads, metrics = local(self._local, params, example)
            grads = jax.tree.map(self._summed, self.specs, grads)
            return grads, jax.lax.psum(metrics, sharding.BATCH)

        return jax.shard_map(
            summed,
            mesh=self.mesh,
            in_specs=(self.specs, ON_BATCH),
            out_specs=(self.specs, PartitionSpec()),
            check_vma=False,
        )(params, example)

    def in_types(self, params: Params) -> Params:
        """Weights that products round to the compute type in it, which changes no result: half the memory to sample."""
        dtype = jnp.dtype(self.architecture.model.dtype)
        return {
            part: jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim > 2 else leaf, value)
            if part == "blocks" and dtype != jnp.float32
            else value
            for part, value in params.items()
        }

    def _summed(self, spec: PartitionSpec, grad: jax.Array) -> jax.Array:
        """Over the axes that have other samples and have not been summed over by gathering's transpose."""
        axes = set(sharding.BATCH) - {axis for entry in spec for axis in sharding.axes_of(entry)}
        return jax.lax.psum(grad, tuple(axis for axis in sharding.BATCH if axis in axes))

    def _local(self, params: Params, x, t, class_id, task):
        """The network of one device, on its samples."""
        placement = Placement(
            platform=self.mesh.devices.flat[0].platform,
            weights=self._block,
            share=_share if self.members > 1 else lambda x: x,
            join=_join if self.members > 1 else lambda x: x,
            members=self.members,
        )
        # All but the blocks is whole for the whole step: it is used at both ends of the network.
        whole = {part: value if part == "blocks" else self._whole(value, (part,)) for part, value in params.items()}
        return self.architecture.apply(whole, x, t, class_id, task, placement)

    def _block(self, block: Any) -> Any:
        """One block of the stack, whole but for what the tensor group splits."""
        return self._whole(block, ("blocks",), stacked=True)

    def _whole(self, tree: Any, prefix: tuple[str, ...], *, stacked: bool = False) -> Any:
        specs = self.specs
        for name in prefix:
            specs = specs[name]
        products = jnp.dtype(self.architecture.model.dtype)
        low = prefix[0] in ("blocks", "projector", "patch_embed")  # what multiplies in the compute type anyway

        def gather(path: tuple, leaf: jax.Array) -> jax.Array:
            name = sharding.path_name(path).removesuffix("/value")
            spec = functools.reduce(lambda node, key: node[key], name.split("/") if name else (), specs)
            spec = tuple(spec)[1:] if stacked else tuple(spec)
            full = "/".join((*prefix, name)) if name else prefix[0]
            rule = sharding.rule_of((full,))
            if low and leaf.ndim > 1:
                leaf = leaf.astype(products)
            for dimension, entry in enumerate(spec):
                axes = tuple(axis for axis in sharding.axes_of(entry) if axis in rule.whole)
                if axes:
                    leaf = _gather(axes, dimension, tuple(self.mesh.shape[axis] for axis in axes), leaf)
            if self.members > 1 and "tensor" in (rule.whole if rule else ()):
                leaf = _own_heads(leaf, self.members)
            return leaf

        return tree_map_with_path(gather, tree)


def _own_heads(leaf: jax.Array, members: int) -> jax.Array:
    """Columns [..., 3 * D] of fused q, k, v -> those of this member's heads, [..., 3 * D / members]."""
    split = leaf.reshape(*leaf.shape[:-1], 3, members, -1)
    own = jax.lax.dynamic_index_in_dim(split, jax.lax.axis_index("tensor"), split.ndim - 2, keepdims=False)
    return own.reshape(*leaf.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _gather(axes: tuple[str, ...], dimension: int, sizes: tuple[int, ...], leaf: jax.Array) -> jax.Array:
    """Parts of `leaf` along `dimension`, from all devices of the axes, in their order."""
    return jax.lax.all_gather(leaf, axes, axis=dimension, tiled=True)


def _gather_forward(axes, dimension, sizes, leaf):
    return _gather(axes, dimension, sizes, leaf), None


def _gather_backward(axes, dimension, sizes, _, grad):
    for axis, size in zip(axes, sizes, strict=True):
        grad = _scatter(grad, axis, size, dimension)
    return (grad,)


_gather.defvjp(_gather_forward, _gather_backward)


def _scatter(grad: jax.Array, axis: str, size: int, dimension: int) -> jax.Array:
    """This device's part of the sum over `axis`: a reduce-scatter, in two hops where one would be too wide."""
    first = _first_hop(size)
    second = size // first
    # The axes that are scattered stand alone: as a leading axis they meet no tile of the layout.
    split = grad.reshape(*grad.shape[:dimension], first, second, -1, *grad.shape[dimension + 1 :])
    far = [[i * second + j for i in range(first)] for j in range(second)]
    split = jax.lax.psum_scatter(split, axis, scatter_dimension=dimension, axis_index_groups=far)
    if second == 1:
        return split.reshape(*grad.shape[:dimension], -1, *grad.shape[dimension + 1 :])
    near = [[i * second + j for j in range(second)] for i in range(first)]
    return jax.lax.psum_scatter(split, axis, scatter_dimension=dimension, axis_index_groups=near)


def _first_hop(size: int) -> int:
    """Devices of the first of two hops, about as many as of the second; all of them where one hop will do."""
    if size <= LARGEST_SCATTER:
        return size
    return min(n for n in range(1, size + 1) if size % n == 0 and n * n >= size)


@jax.custom_vjp
def _share(x: jax.Array) -> jax.Array:
    """The same on all members going forward; their gradients' sum coming back."""
    return x


_share.defvjp(lambda x: (x, None), lambda _, grad: (jax.lax.psum(grad, "tensor"),))


@jax.custom_vjp
def _join(x: jax.Array) -> jax.Array:
    """The members' sum going forward; the same gradient for all coming back."""
    return jax.lax.psum(x, "tensor")


_join.defvjp(lambda x: (jax.lax.psum(x, "tensor"), None), lambda _, grad: (grad,))
