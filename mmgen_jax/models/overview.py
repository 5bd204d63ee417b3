"""Shows the parameters of a network as a short table."""

from __future__ import annotations

import math
from collections import defaultdict

import jax
from flax import traverse_util

from mmgen_jax.models.architectures import Params


def parameters(params: Params) -> str:
    """Table with a row for each layer: its name, the shape of its largest array, its number of numbers, their type.

    `params` may hold arrays or their shapes. Layers are named by the first two parts of their path.
    """
    layers: dict[str, list[jax.Array]] = defaultdict(list)
    for path, leaf in traverse_util.flatten_dict(params).items():
        layers[".".join(map(str, path[:2] if len(path) > 2 else path[:1]))].append(leaf)
    rows = [("layer", "largest array", "numbers", "type")]
    for name, leaves in layers.items():
        largest = max(leaves, key=lambda leaf: math.prod(leaf.shape))
        kinds = ", ".join(sorted({str(leaf.dtype) for leaf in leaves}))
        shape = " x ".join(map(str, largest.shape))
        rows.append((name, shape, f"{sum(math.prod(leaf.shape) for leaf in leaves):,}", kinds))
    rows.append(("all", "", f"{sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)):,}", ""))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join(
        f"  {name:<{widths[0]}}  {shape:<{widths[1]}}  {count:>{widths[2]}}  {kind}".rstrip()
        for name, shape, count, kind in rows
    )
