"""The network on a mesh: what each device stores and computes, and what devices send to each other.

Forward and backward pass run in one `jax.shard_map`, whose code sees the arrays of one device and says itself what is
communicated. The usual alternative, `jit` with shardings as annotations, leaves to the compiler what is gathered and
when, and it chose far slower programs for TPUs (`mmgen_jax.studies.layouts` compares both).

What lives where, on a mesh with the axes data, fsdp and tensor (the rules are in `parallel/sharding.py`; optimizer
moments and averages are split like their parameter):

    array                      stored on each device          used in the computation
    batch                      part over data x fsdp          the same part
    kernels outside blocks     rows over fsdp                 whole, gathered over fsdp at the start
    adaLN kernels of blocks    rows over fsdp                 whole, gathered over fsdp before each multiplication
    fc1, proj, fc2 kernels     part over fsdp and tensor      gathered over fsdp; each member keeps its tensor part
    qkv kernel and bias        part over both (bias: tensor)  gathered; each member then picks its heads
    other biases, tables       whole (fc1: part over tensor)  as stored

How gradients are summed over devices:

* **fsdp**: devices have different samples. The transpose of a gather (`_gather`) sums the gradient over fsdp and keeps
  this device's part of it, so the gradient arrives where the optimizer needs it. Blocks are gathered one at a time, in
  the compute type, so that only one of them is whole at any moment (FSDP, Zhao et al. 2023).
* **data**: devices have different samples too and the same parts of the weights. Their gradients are summed once, after
  the backward pass (`_summed`). Parameters that were not gathered are summed over fsdp there, too.
* **tensor**: the members of a group have the same samples and split heads and MLP (Shoeybi et al. 2019). `_share` and
  `_join` stand where the split begins and ends. They make everything outside of the split, forward and backward, the
  same on all members, so gradients of weights outside need no sum over this axis.

`check_vma` is off in every `shard_map`: with it, JAX would add sums over devices to gradients by itself, besides these.
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

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.diffusion.prompt import Prompt
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.parallel import sharding
from mmgen_jax.parallel.placement import Placement, einsum_for
from mmgen_jax.system.errors import UsageError

# (array, mesh axis, dimension) -> this device's part, along the dimension, of the sum over the axis
Scatter = Callable[[jax.Array, str, int], jax.Array]
ON_BATCH = PartitionSpec(sharding.BATCH)


@dataclass(frozen=True)
class Layout:
    """An architecture on a mesh: the network and its gradients as functions of global arrays.

    Raises UsageError if the size of the tensor axis does not divide the heads and the hidden width of the MLP.
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
        """The PartitionSpec of every parameter, which says over which mesh axes each dimension is split."""
        shapes = jax.eval_shape(self.architecture.init, jax.random.key(0))
        return tree_map_with_path(lambda path, leaf: sharding.spec_of(path, leaf.shape, self.mesh), shapes)

    def apply(
        self, params: Params, x: Latents, t: jax.Array, prompt: Prompt, r: jax.Array | None = None
    ) -> tuple[Latents, jax.Array | None]:
        """`Architecture.apply` on global arrays: the batch is split over the devices, parameters as `specs` says."""
        return jax.shard_map(
            self._local,
            mesh=self.mesh,
            in_specs=(self.specs, ON_BATCH, ON_BATCH, ON_BATCH, ON_BATCH),
            out_specs=ON_BATCH,
            check_vma=False,
        )(params, x, t, prompt, r)

    def gradients(
        self, local: Callable[..., tuple[Params, Any]], params: Params, example: Any, shared: Any = None
    ) -> tuple[Params, Any]:
        """Computes gradients and metrics of a loss that is a sum over samples.

        Args:
          local: (apply, params, example, shared) -> gradients and metrics of the samples of one device. `apply` has
            the signature of `Architecture.apply`; all its arrays are those of this device.
          params: global arrays, split as `specs` says.
          example: global arrays whose leading axis is the batch.
          shared: global arrays that every device has whole, such as the weights of a frozen network.

        Returns:
          the sums over all samples: gradients split as `specs` says, metrics whole on every device.
        """

        def summed(params: Params, example: Any, shared: Any) -> tuple[Params, Any]:
            grads, metrics = local(self._local, params, example, shared)
            return self._summed(grads, metrics)

        return jax.shard_map(
            summed,
            mesh=self.mesh,
            in_specs=(self.specs, ON_BATCH, PartitionSpec()),
            out_specs=(self.specs, PartitionSpec()),
            check_vma=False,
        )(params, example, shared)

    def in_types(self, params: Params) -> Params:
        """Rounds block weights to the compute type, as the blocks do anyway: the same result from half the memory."""
        dtype = jnp.dtype(self.architecture.model.dtype)
        return {
            part: jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim > 2 else leaf, value)
            if part == "blocks" and dtype != jnp.float32
            else value
            for part, value in params.items()
        }

    def _summed(self, grads: Params, metrics: Any) -> tuple[Params, Any]:
        """Sums gradients and metrics of one device over the batch axes, data and fsdp.

        A parameter that is split over fsdp was gathered, and the transpose of that gather has summed its gradient over
        fsdp, so only the sum over data is missing. A parameter that every device stores whole (most biases) was not
        gathered, so both sums are missing.
        """

        def axes_left(spec: PartitionSpec) -> tuple[str, ...]:  # batch axes over which the sum is missing
            done = {axis for entry in spec for axis in sharding.axes_of(entry)}
            return tuple(axis for axis in sharding.BATCH if axis not in done)

        leaves, tree = jax.tree.flatten((grads, metrics))
        left = [axes_left(spec) for spec in jax.tree.leaves(self.specs)]
        left += [sharding.BATCH] * (len(leaves) - len(left))  # metrics need both sums
        # What needs both sums (metrics, and gradients mostly of biases) are many small arrays. They are summed as one
        # array, since every collective has a latency.
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
        """Euclidean norms [number of trees] of trees with the shapes of the parameters, by one collective for all."""

        def local(trees: tuple[Params, ...]) -> jax.Array:
            return jnp.sqrt(jax.lax.psum(jnp.stack([self._own_squares(tree) for tree in trees]), sharding.AXES))

        spec = (self.specs,) * len(trees)
        return jax.shard_map(local, mesh=self.mesh, in_specs=(spec,), out_specs=PartitionSpec(), check_vma=False)(trees)

    def _own_squares(self, tree: Params) -> jax.Array:
        """Sum of squares of this device's parts, each divided by the number of devices that store the same part.

        So the sum over all devices counts every number once.
        """
        total = jnp.zeros((), jnp.float32)
        for leaf, spec in zip(jax.tree.leaves(tree), jax.tree.leaves(self.specs), strict=True):
            split = math.prod(self.mesh.shape[axis] for entry in spec for axis in sharding.axes_of(entry))
            total += jnp.square(leaf.astype(jnp.float32)).sum() * (split / self.mesh.size)
        return total

    def _local(
        self,
        params: Params,
        x: Latents,
        t: jax.Array,
        prompt: Prompt,
        r: jax.Array | None = None,
        *,
        forward: bool = False,
    ) -> tuple[Latents, jax.Array | None]:
        """Computes the network on the samples of one device, from its parts of the parameters.

        With `forward`, derivatives by x and t in forward mode can be taken, and gradients cannot: what has rules of its
        own for gradients is computed plainly.
        """
        split = self.members > 1
        placement = Placement(
            platform=self.platform,
            block=self._block,
            product=functools.partial(self._product, forward=forward),
            share=_share if split and not forward else lambda x: x,
            join=(_total if forward else _join) if split else lambda x: x,
            members=self.members,
            attention="xla" if forward else "",
        )
        # Everything outside of the blocks is gathered at the start and kept, as it is small.
        whole = {part: value if part == "blocks" else self._whole(value, part) for part, value in params.items()}
        return self.architecture.apply(whole, x, t, prompt, placement, r)

    def _block(self, block: Any) -> Any:
        """Gathers the biases of one block of the stack. Its kernels are gathered later, one by one, in `_product`."""

        def whole(path: tuple, leaf: jax.Array) -> jax.Array:
            name = f"blocks/{sharding.path_name(path).removesuffix('/value')}"
            return leaf if name.endswith("kernel") else self._gather(name, leaf, stacked=True)

        return tree_map_with_path(whole, block)

    def _whole(self, tree: Any, part: str) -> Any:
        """Gathers the parameters of a part of the network outside of the blocks."""
        low = part in ("projector", "patch_embed")  # these parts multiply in the compute type, others in float32

        def whole(path: tuple, leaf: jax.Array) -> jax.Array:
            name = "/".join(filter(None, (part, sharding.path_name(path))))
            return self._gather(name, leaf.astype(self._dtype) if low and leaf.ndim > 1 else leaf)

        return tree_map_with_path(whole, tree)

    def _product(self, name: str, equation: str, x: jax.Array, kernel: jax.Array, *, forward: bool) -> jax.Array:
        """Multiplies with a kernel of a block, which is gathered right before.

        On TPUs, the backward pass gathers the kernel again. If it were kept from the forward pass instead, the kernels
        of all blocks would be whole in memory when the backward pass begins. The second gather costs little there, as
        TPUs gather in the background of other work.
        """

        einsum = einsum_for(self.platform, forward=forward)

        def plain(x: jax.Array, kernel: jax.Array) -> jax.Array:
            kernel = self._gather(f"blocks/{name}/kernel", kernel.astype(self._dtype), stacked=True)
            return einsum(equation, x, kernel)

        return _gathered_again(plain, x, kernel) if self.platform == "tpu" and not forward else plain(x, kernel)

    @property
    def _dtype(self) -> jnp.dtype:
        return jnp.dtype(self.architecture.model.dtype)

    def _gather(self, name: str, leaf: jax.Array, *, stacked: bool = False) -> jax.Array:
        """Makes of the stored part of a parameter what this device computes with.

        It is gathered over the axes that its rule lists as `whole`; if tensor is among them, this member's heads are
        picked afterwards. `stacked` says that `leaf` is a parameter of one block, while its entry in `specs` has the
        dimension of all blocks in front.
        """
        node: Any = self.specs
        for key in name.split("/"):
            node = node[key]
        spec, rule = tuple(node), sharding.rule_of((name,))
        whole = rule.whole if rule else ()
        # How the gradient is summed on its way back. Both functions have the same result.
        scatter = _sum_and_cut if self.platform == "tpu" else _reduce_scatter
        for dimension, entry in enumerate(spec[1:] if stacked else spec):
            axes = tuple(axis for axis in sharding.axes_of(entry) if axis in whole)
            if axes:
                leaf = _gather(axes, dimension, scatter, leaf)
        if self.members > 1 and "tensor" in whole:
            leaf = _own_heads(leaf, self.members)
        return leaf


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gathered_again(product: Callable, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes `product(x, kernel)`, and keeps the stored part of the kernel, not the gathered one, for gradients."""
    return product(x, kernel)


def _gathered_again_backward(product: Callable, stored: tuple, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = stored
    # Without the barrier, the compiler would notice that the kernel was gathered before, and would keep it after all.
    return jax.vjp(product, x, jax.lax.optimization_barrier(kernel))[1](grad)


_gathered_again.defvjp(lambda product, x, kernel: (product(x, kernel), (x, kernel)), _gathered_again_backward)


def _own_heads(leaf: jax.Array, members: int) -> jax.Array:
    """Picks this member's heads: columns [..., 3 * D] of the fused q, k and v -> [..., 3 * D / members].

    The fused matrix is gathered whole and cut here, because the columns of one member's heads in q, k and v are not
    neighbours in it. A storage order that makes them neighbours would let checkpoints depend on the mesh.
    """
    split = leaf.reshape(*leaf.shape[:-1], 3, members, -1)
    own = jax.lax.dynamic_index_in_dim(split, jax.lax.axis_index("tensor"), split.ndim - 2, keepdims=False)
    return own.reshape(*leaf.shape[:-1], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _gather(axes: tuple[str, ...], dimension: int, scatter: Scatter, leaf: jax.Array) -> jax.Array:
    """Joins the parts that the devices of the axes store, along `dimension` and in the order of the devices.

    Its transpose is `scatter`. Each device used the whole array for its own samples (or, over tensor, its own heads),
    so the gradient is the sum over the devices, and each of them keeps the part that it stores.
    """
    del scatter  # only the gradient uses it
    return jax.lax.all_gather(leaf, axes, axis=dimension, tiled=True)


def _gather_forward(axes, dimension, scatter, leaf):
    return _gather(axes, dimension, scatter, leaf), None


def _gather_backward(axes, dimension, scatter, _, grad):
    for axis in axes:
        grad = scatter(grad, axis, dimension)
    return (grad,)


_gather.defvjp(_gather_forward, _gather_backward)


def _reduce_scatter(grad: jax.Array, axis: str, dimension: int) -> jax.Array:
    """Returns this device's part, along `dimension`, of the sum over `axis`, by one collective."""
    return jax.lax.psum_scatter(grad, axis, scatter_dimension=dimension, tiled=True)


def _sum_and_cut(grad: jax.Array, axis: str, dimension: int) -> jax.Array:
    """Returns what `_reduce_scatter` returns, by an all-reduce of which a part is kept.

    This moves twice the bytes. But the TPU compiler runs all-reduces in the background of matrix multiplications, which
    it does not do with reduce-scatters.
    """
    size = grad.shape[dimension] // jax.lax.axis_size(axis)
    # The barrier keeps the compiler from turning the two operations into a reduce-scatter.
    total = jax.lax.optimization_barrier(jax.lax.psum(grad, axis))
    return jax.lax.dynamic_slice_in_dim(total, jax.lax.axis_index(axis) * size, size, dimension)


@jax.custom_vjp
def _share(x: jax.Array) -> jax.Array:
    """Marks where the split part of a tensor group begins. Forward, it returns x, which all members have.

    Backward, it sums the gradient over the members, as each member's gradient accounts only for its own heads or
    columns.
    """
    return x


_share.defvjp(lambda x: (x, None), lambda _, grad: (jax.lax.psum(grad, "tensor"),))


@jax.custom_vjp
def _join(x: jax.Array) -> jax.Array:
    """Marks where the split part of a tensor group ends. Forward, it sums the members' partial results.

    Backward, it returns the gradient unchanged. All members have the same gradient, and the transpose of `psum` would
    wrongly add these up.
    """
    return _total(x)


def _total(x: jax.Array) -> jax.Array:
    """The sum of the members' partial results."""
    return jax.lax.psum(x, "tensor")


_join.defvjp(lambda x: (_total(x), None), lambda _, grad: (grad,))
