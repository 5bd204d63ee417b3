"""Inpainting: a part of a modality is known, and the rest of it is made to fit, together with all else that is made.

Where the clean sample c is known, the velocity is that of a density which is c alone. On the linear path this is
v = (x - c) / t, which leads from any noise along a straight line to c: whatever the solver, the network sees the known
part at its right noise level in every step. But it takes that part for as uncertain as it is noisy, so what is made
round it would follow it too late and too little. Therefore the rest is led by reconstruction guidance too (Ho et al.
2022, "Video diffusion models"; Song et al. 2023, "Pseudoinverse-guided diffusion models"): with x0(x_t), what the
network expects of the known part, the score gets the gradient of log N(c; x0(x_t), V). V = s^2 t^2 / (s^2 (1 - t)^2 +
t^2) is the variance that a normal c has given x_t, with the standard deviation s that each channel has in the data.
Its gradient goes through the network, which costs about as much as two more evaluations.

Cells of latents of which only some pixels are known have no clean sample c. In its place is what the expected x0
decodes to, with the known pixels in it, encoded again: the projection of x0 to what agrees with the known pixels (the
null-space projection of Wang et al. 2023, "DDNM", through an autoencoder). So what is made goes on from the last known
pixel, not from the last cell that is known as a whole.

For jointly Gaussian pixels the known part alone leaves the error of the conditional mean at a half; with guidance it is
6%, and Langevin steps (`corrections`) halve that (`tests/sampling/test_inpainting.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax.diffusion import flow
from mmgen_jax.diffusion.latents import Latents
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.sampling.fields import VelocityFn
from mmgen_jax.system.arrays import AnyArray


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mixed:
    """Cells of latents with pixels that are known and others that are not.

    Attributes:
      autoencoder: between images and latents.
      images: arrays [B, H, W, C] in [-1, 1] of the targets of which a part is known.
      pixels: where they are known, bool [B, H, W, 1].
      cells: where there are such cells, bool [B, h, w, 1].
    """

    autoencoder: Autoencoder
    images: Latents
    pixels: Latents
    cells: Latents

    def completed(self, name: str, clean: jax.Array) -> jax.Array:
        """Latents [B, h, w, C] of what `clean` latents of a target decode to, with the known pixels in their place."""
        decoded = self.autoencoder.decode(Latents({name: clean}))[name]
        images = jnp.where(self.pixels[name], self.images[name], decoded)
        return self.autoencoder.encode(Latents({name: images}))[name]


@dataclass(frozen=True)
class Inpainted:
    """A velocity function that leads to what is known of its targets, on the linear path.

    `sample` takes it like any other; `finish` puts what is known into its result exactly, as stochastic solvers leave
    some noise.

    Attributes:
      velocity_fn: the velocity where nothing is known.
      clean: latents [B, H, W, C] of the targets of which a part is known; elsewhere they may be anything finite.
      known: where they are known, bool [B, H, W, 1].
      mixed: what is known within other cells; None if nothing is.
      deviation: standard deviation of the data of each target [C]; 1 if it is not there.
    """

    velocity_fn: VelocityFn
    clean: Latents
    known: Latents
    mixed: Mixed | None = None
    deviation: Mapping[str, AnyArray] = field(default_factory=dict)

    def __call__(self, x: Latents, t: jax.Array) -> Latents:
        """Velocity of the targets x, dict of [B, H, W, C], at times t [B, M]."""
        times = {name: t[:, m].reshape(-1, 1, 1, 1) for m, name in enumerate(x)}
        pull, velocity = jax.grad(self._mismatch, has_aux=True)(x, t)
        found = Latents()
        for name, time in times.items():
            # Of a change of the score: v = -(t score + x) / (1 - t). At t = 1 the network expects the same of any x.
            found[name] = velocity[name] + jnp.where(time < 1, time / jnp.where(time < 1, 1 - time, 1), 0) * pull[name]
            if name in self.clean:
                clean, where = self._wanted(name, x[name] - time * found[name])
                straight = jnp.where(time > 0, (x[name] - clean) / jnp.where(time > 0, time, 1), 0)
                found[name] = jnp.where(where, straight, found[name])
        return found

    def _mismatch(self, x: Latents, t: jax.Array) -> tuple[jax.Array, Mapping[str, jax.Array]]:
        """-log N(c; x0(x_t), V) but for a constant, of all that is known, and the velocity."""
        velocity, total = self.velocity_fn(x, t), jnp.zeros(())
        for m, name in enumerate(x):
            if name in self.clean:
                time = t[:, m].reshape(-1, 1, 1, 1)
                expected = flow.x0_from_velocity(flow.LINEAR, velocity[name], x[name], t[:, m])
                clean, where = self._wanted(name, expected)
                variance = flow.spread_of_normal(time, jnp.asarray(self.deviation.get(name, 1.0)))
                off = jnp.square(expected - jax.lax.stop_gradient(clean))
                total += jnp.where(where & (variance > 0), off / jnp.where(variance > 0, variance, 1), 0).sum() / 2
        return total, velocity

    def _wanted(self, name: str, expected: jax.Array) -> tuple[jax.Array, jax.Array]:
        """What the clean target should be, [B, H, W, C], where something is known of it, bool [B, H, W, 1]."""
        clean, known = self.clean[name], self.known[name]
        if self.mixed is None:
            return clean, known
        return jnp.where(known, clean, self.mixed.completed(name, expected)), known | self.mixed.cells[name]

    def finish(self, x: Latents) -> Latents:
        """The samples x with what is known in its place."""
        found = Latents()
        for m, z in x.items():
            clean, where = self._wanted(m, z) if m in self.clean else (z, jnp.array(False))
            found[m] = jnp.where(where, clean, z)
        return found


def whole_cells(known: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cells of latents, bool [n, height, width, 1], all of whose pixels are known, from bool [n, H, W] of pixels.

    A cell with a pixel that is not known mixes what is known with what is not; see `Mixed`.
    """
    n, rows, columns = known.shape
    cells = known.reshape(n, height, rows // height, width, columns // width)
    return np.asarray(cells.all((2, 4)))[..., None]


def mixed_cells(known: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cells, as those of `whole_cells`, of which some pixels are known and some are not."""
    return ~whole_cells(known, height, width) & ~whole_cells(~known, height, width)
