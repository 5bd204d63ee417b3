"""Inpainting: a part of a modality is known, and the rest of it is made to fit, together with all else that is made.

Where the clean sample c is known, the velocity is that of a density which is c alone. On the linear path this is
v = (x - c) / t, which leads from any noise along a straight line to c: whatever the solver, the network sees the known
part at its right noise level in every step. But it takes that part for as uncertain as it is noisy, so what is made
round it would follow it too late and too little. Therefore the rest is led by reconstruction guidance too (Ho et al.
2022, "Video diffusion models"; Song et al. 2023, "Pseudoinverse-guided diffusion models"): with x0(x_t), what the
network expects of the known part, the score gets the gradient of log N(c; x0(x_t), V) with the variance
V = t^2 / ((1 - t)^2 + t^2) that a standard normal c has given x_t. Its gradient goes through the network, which costs
about as much as two more evaluations.

For jointly Gaussian pixels the known part alone leaves the error of the conditional mean at a half; with guidance it is
6%, and Langevin steps (`corrections`) halve that (`tests/sampling/test_inpainting.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.sampling.fields import VelocityFn


@dataclass(frozen=True)
class Inpainted:
    """A velocity function that leads to what is known of its targets, on the linear path.

    `sample` takes it like any other; `finish` puts what is known into its result exactly, as stochastic solvers leave
    some noise.

    Attributes:
      velocity_fn: the velocity where nothing is known.
      clean: latents [B, H, W, C] of the targets of which a part is known; elsewhere they may be anything finite.
      known: where they are known, bool [B, H, W, 1].
    """

    velocity_fn: VelocityFn
    clean: Latents
    known: Latents

    def __call__(self, x: Latents, t: jax.Array) -> Latents:
        """Velocity of the targets x, dict of [B, H, W, C], at times t [B, M]."""
        times = {name: t[:, m].reshape(-1, 1, 1, 1) for m, name in enumerate(x)}
        pull, velocity = jax.grad(self._mismatch, has_aux=True)(x, t)
        found = Latents()
        for name, time in times.items():
            # Of a change of the score: v = -(t score + x) / (1 - t). At t = 1 the network expects the same of any x.
            found[name] = velocity[name] + jnp.where(time < 1, time / jnp.where(time < 1, 1 - time, 1), 0) * pull[name]
            if name in self.clean:
                straight = jnp.where(time > 0, (x[name] - self.clean[name]) / jnp.where(time > 0, time, 1), 0)
                found[name] = jnp.where(self.known[name], straight, found[name])
        return found

    def _mismatch(self, x: Latents, t: jax.Array) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """-log N(c; x0(x_t), V) but for a constant, of all that is known, and the velocity."""
        velocity, total = self.velocity_fn(x, t), jnp.zeros(())
        for m, name in enumerate(x):
            if name in self.clean:
                time = t[:, m].reshape(-1, 1, 1, 1)
                off = flow.x0_from_velocity(flow.LINEAR, velocity[name], x[name], t[:, m]) - self.clean[name]
                variance = flow.spread_of_normal(time)
                parts = jnp.where(variance > 0, jnp.square(off) / jnp.where(variance > 0, variance, 1), 0)
                total += jnp.where(self.known[name], parts, 0).sum() / 2
        return total, velocity

    def finish(self, x: Latents) -> Latents:
        """The samples x with what is known in its place."""
        return Latents((m, jnp.where(self.known[m], self.clean[m], z) if m in self.clean else z) for m, z in x.items())


def whole_cells(known: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cells of latents, bool [n, height, width, 1], all of whose pixels are known, from bool [n, H, W] of pixels.

    A cell with a pixel that is not known is made, as its latents mix what is known with what is not.
    """
    n, rows, columns = known.shape
    cells = known.reshape(n, height, rows // height, width, columns // width)
    return np.asarray(cells.all((2, 4)))[..., None]
