"""The network on a mesh: what each device computes, and what devices tell each other.

Everything is explicit in one `shard_map`: a block's weights are gathered over `fsdp` in the compute type right before
their use, so that one block is whole at a time (FSDP), gradients are summed into the parts that are stored, and the
members of a `tensor` group split heads and MLP (Shoeybi et al. 2019). Annotations alone leave to the compiler what is
gathered and when, and it chose far slower programs for TPUs.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import tree_map_with_path

from mmgen_jax.models.architecture import Architecture, Params
from mmgen_jax.parallel import mesh as sharding
from mmgen_jax.parallel.placement import Placement, einsum
from mmgen_jax.system.errors import UsageError

Scatter = Callable[[jax.Array, str, int], jax.Array]  # (array, axis of the mesh, dimension) -> own part of the sum
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

    @property
    def platform(self) -> str:
        return self.mesh.devices.flat[0].platform

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
            return self._summed(grads, metrics)

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

    def _summed(self, grads: Params, metrics: Any) -> tuple[Params, Any]:
        """Over the axes that have other samples and have not been summed over by gathering's transpose."""

        def axes_left(spec: PartitionSpec) -> tuple[str, ...]:
            done = {axis for entry in spec for axis in sharding.axes_of(entry)}
            return tuple(axis for axis in sharding.BATCH if axis not in done)

        leaves, tree = jax.tree.flatten((grads, metrics))
        left = [axes_left(spec) for spec in jax.tree.leaves(self.specs)]
        left += [sharding.BATCH] * (len(leaves) - len(left))  # metrics
        # What is whole everywhere, biases above all, goes in one array: each collective has a latency.
        small = [i for i, axes in enumerate(left) if axes == sharding.BATCH]
        joined = jax.lax.psum(jnp.concatenate([leaves[i].ravel() for i in small]), sharding.BATCH)
        starts = itertools.accumulate((leaves[i].size for i in small), initial=0)
        for i, start in zip(small, starts, strict=False):
            leaves[i] = joined[start : start + leaves[i].size].reshape(leaves[i].shape)
        for i, axes in enumerate(left):
            if i not in small:
                leaves[i] = jax.lax.psum(leaves[i], axes)
        return jax.tree.unflatten(tree, leaves)

    def norms(self, *trees: Params) -> jax.Array:
        """Euclidean norms, one of each tree like the parameters, by one collective."""

        def local(trees: tuple[Params, ...]) -> jax.Array:
            return jnp.sqrt(jax.lax.psum(jnp.stack([self._own_squares(tree) for tree in trees]), sharding.AXES))

        spec = (self.specs,) * len(trees)
        return jax.shard_map(local, mesh=self.mesh, in_specs=(spec,), out_specs=PartitionSpec(), check_vma=False)(trees)

    def _own_squares(self, tree: Params) -> jax.Array:
        """Sum of squares of this device's parts, each over the number of devices that have it."""
        total = jnp.zeros((), jnp.float32)
        for leaf, spec in zip(jax.tree.leaves(tree), jax.tree.leaves(self.specs), strict=True):
            split = math.prod(self.mesh.shape[axis] for entry in spec for axis in sharding.axes_of(entry))
            total += jnp.square(leaf.astype(jnp.float32)).sum() * (split / self.mesh.size)
        return total

    def _local(self, params: Params, x, t, class_id, task):
        """The network of one device, on its samples."""
        placement = Placement(
            platform=self.platform,
            block=self._block,
            product=self._product,
            share=_share if self.members > 1 else lambda x: x,
            join=_join if self.members > 1 else lambda x: x,
            members=self.members,
        )
        # All but the blocks is whole for the whole step: it is used at both ends of the network.
        whole = {part: value if part == "blocks" else self._whole(value, part) for part, value in params.items()}
        return self.architecture.apply(whole, x, t, class_id, task, placement)

    def _block(self, block: Any) -> Any:
        """One block of the stack, its biases as this device needs them."""

        def whole(path: tuple, leaf: jax.Array) -> jax.Array:
            name = f"blocks/{sharding.path_name(path).removesuffix('/value')}"
            return leaf if name.endswith("kernel") else self._gather(name, leaf, stacked=True)

        return tree_map_with_path(whole, block)

    def _whole(self, tree: Any, part: str) -> Any:
        """A part of the network that is no block."""
        low = part in ("projector", "patch_embed")  # multiply in the compute type

        def whole(path: tuple, leaf: jax.Array) -> jax.Array:
            name = "/".join(filter(None, (part, sharding.path_name(path))))
            return self._gather(name, leaf.astype(self._dtype) if low and leaf.ndim > 1 else leaf)

        return tree_map_with_path(whole, tree)

    def _product(self, name: str, equation: str, x: jax.Array, kernel: jax.Array) -> jax.Array:
        """Product with a block's kernel, gathered for it, and on TPUs once more for its gradients.

        Gathering is hidden there; kept, the kernels of all blocks would be whole on every device.
        """

        def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
            kernel = self._gather(f"blocks/{name}/kernel", kernel.astype(self._dtype), stacked=True)
            return einsum(equation, x, kernel)

        return _gathered_again(plain, x, kernel) if self.platform == "tpu" else plain(x, kernel)

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.architecture.model.dtype)

    def _gather(self, name: str, leaf: jax.Array, *, stacked: bool = False) -> jax.Array:
        """A stored parameter as this device needs it; `stacked`: of one block, where `specs` has all."""
        spec = tuple(functools.reduce(lambda node, key: node[key], name.split("/"), self.specs))
        rule = sharding.rule_of((name,))
        scatter = _sum_and_cut if self.platform == "tpu" else _reduce_scatter
        for dimension, entry in enumerate(spec[1:] if stacked else spec):
            axes = tuple(axis for axis in sharding.axes_of(entry) if axis in rule.whole)
            if axes:
                leaf = _gather(axes, dimension, scatter, leaf)
        if self.members > 1 and rule and "tensor" in rule.whole:
            leaf = _own_heads(leaf, self.members)
        return leaf


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered_again(product: Callable, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`product(x, kernel)`; its gradients start from the stored kernel, so that nothing whole is kept for them."""
    return product(x, kernel)


def _gathered_again_backward(product: Callable, stored: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = stored
    # The barrier keeps the compiler from seeing that the kernel has been gathered before.
    return jax.vjp(product, x, jax.lax.optimization_barrier(kernel))[1](grad)


_gathered_again.defvjp(lambda product, x, kernel: (product(x, kernel), (x, kernel)), _gathered_again_backward)


def _own_heads(leaf: jax.Array, members: int) -> jax.Array:
    """Columns [..., 3 * D] of fused q, k, v -> those of this member's heads, [..., 3 * D / members]."""
    split = leaf.reshape(*leaf.shape[:-1], 3, members, -1)
    own = jax.lax.dynamic_index_in_dim(split, jax.lax.axis_index("tensor"), split.ndim - 2, keepdims=False)
    return own.reshape(*leaf.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _gather(axes: tuple[str, ...], dimension: int, scatter: Scatter, leaf: jax.Array) -> jax.Array:
    """Parts of `leaf` along `dimension`, from all devices of the axes, in their order."""
    del scatter  # what the gradient uses
    return jax.lax.all_gather(leaf, axes, axis=dimension, tiled=True)


def _gather_forward(axes, dimension, scatter, leaf):
    return _gather(axes, dimension, scatter, leaf), None


def _gather_backward(axes, dimension, scatter, _, grad):
    for axis in axes:
        grad = scatter(grad, axis, dimension)
    return (grad,)


_gather.defvjp(_gather_forward, _gather_backward)


def _reduce_scatter(grad: jax.Array, axis: str, dimension: int) -> jax.Array:
    return jax.lax.psum_scatter(grad, axis, scatter_dimension=dimension, tiled=True)


def _sum_and_cut(grad: jax.Array, axis: str, dimension: int) -> jax.Array:
    """Twice the traffic of a reduce-scatter, but hidden: the TPU compiler runs only all-reduces behind products."""
    size = grad.shape[dimension] // jax.lax.axis_size(axis)
    # The barrier keeps the compiler from making a reduce-scatter of it after all.
    total = jax.lax.optimization_barrier(jax.lax.psum(grad, axis))
    return jax.lax.dynamic_slice_in_dim(total, jax.lax.axis_index(axis) * size, size, dimension)


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
