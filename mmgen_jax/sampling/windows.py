"""A network of one size over a larger canvas: windows that overlap, whose velocities are averaged in every step.

This is MultiDiffusion (Bar-Tal et al. 2023). Solvers, guidance and compositions see one canvas: the average is the
velocity that is nearest to those of all windows, in the least squares that the weights make.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.branches import Network, Presence

Place = tuple[int, int]  # of the upper left corner of a window


def places(height: int, width: int, window: int) -> list[Place]:
    """Corners of windows that cover a canvas, each overlapping the next one by half or more. Rows come first."""
    return list(itertools.product(_starts(height, window), _starts(width, window)))


def _starts(length: int, window: int) -> list[int]:
    steps = math.ceil(2 * (length - window) / window)
    return [0] if steps == 0 else [round(i * (length - window) / steps) for i in range(steps + 1)]


def weight(window: int) -> np.ndarray:
    """Weight [window, window] of each position in the average: it rises from the border, so that no seam is seen."""
    along = np.minimum(np.arange(window) + 1, np.arange(window, 0, -1)).astype(np.float32)
    return along[:, None] * along


def over(network: Network, height: int, width: int, window: int) -> Network:
    """The velocity on a canvas of height x width of a network that sees windows of window x window.

    On a canvas of one window this is the network itself. The network is evaluated once for all windows, which are rows
    of its batch: those of one row of the canvas are neighbours.

    Raises ValueError for a canvas that is smaller than a window.
    """
    if min(height, width) < window:
        raise ValueError(f"canvas is {height} x {width}: must be at least {window} x {window}")
    corners = places(height, width, window)
    if len(corners) == 1:
        return network
    share = weight(window)
    total = np.zeros((height, width), np.float32)
    for y, x in corners:
        total[y : y + window, x : x + window] += share

    def canvas(x: Latents, t: jax.Array, present: Presence, *ends: jax.Array) -> Latents:
        count = len(corners)

        def cut(value: jax.Array) -> jax.Array:
            parts = [value[:, i : i + window, j : j + window] for i, j in corners]
            return jnp.stack(parts, 1).reshape(-1, window, window, value.shape[-1])

        there = {name: jnp.repeat(rows, count, axis=0) for name, rows in present.items()}
        now, *then = (jnp.repeat(time, count, axis=0) for time in (t, *ends))
        found = network(Latents((m, cut(value)) for m, value in x.items()), now, there, *then)

        def joined(velocity: jax.Array) -> jax.Array:
            parts = velocity.reshape(-1, count, *velocity.shape[1:]) * share[:, :, None]
            sums = jnp.zeros((len(t), height, width, velocity.shape[-1]), velocity.dtype)
            for k, (i, j) in enumerate(corners):
                sums = sums.at[:, i : i + window, j : j + window].add(parts[:, k])
            return sums / total[:, :, None]

        return Latents((m, joined(velocity)) for m, velocity in found.items())

    return canvas
