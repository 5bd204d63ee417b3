"""Networks without weights: how they are built up, and the shapes of their parameters."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable

from flax import nnx

Params = dict  # nested dict of arrays or of their shapes, with keys as in the NNX module


@functools.cache
def _split(network: Callable[..., nnx.Module], arguments: tuple[Hashable, ...]) -> tuple[nnx.GraphDef, nnx.State]:
    return nnx.split(nnx.eval_shape(lambda: network(*arguments, rngs=nnx.Rngs(0))))


def graphdef(network: Callable[..., nnx.Module], *arguments: Hashable) -> nnx.GraphDef:
    """What `nnx.merge` joins with parameters to `network(*arguments)`; the same object for equal arguments."""
    return _split(network, arguments)[0]


def params(network: Callable[..., nnx.Module], *arguments: Hashable) -> Params:
    """Shapes and types of the parameters of `network(*arguments)`."""
    return nnx.to_pure_dict(_split(network, arguments)[1])
