"""Draws what the network sees of a scene: its images, their latents, and these with more and more noise.

python -m mmgen_jax.studies.noising --config=configs/shapes_tiny.py --workdir=shapes-tiny
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_string("out", "docs/images/noising.png", "File of the picture.")
    command.parse()  # before the imports below, which take seconds

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mmgen_jax import settings
from mmgen_jax.data import held_out
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.diffusion import flow
from mmgen_jax.metrics.runner import to_values
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.show import pictures
from mmgen_jax.studies.opening import opened
from mmgen_jax.system import files
from mmgen_jax.system.console import say

TIMES = (0.25, 0.5, 0.75, 1.0)
_RANGE = 2.0  # standard deviations from the mean that are still told apart in a picture of latents


def columns(scene: dict[str, np.ndarray], architecture: Architecture) -> dict[str, np.ndarray]:
    """Label -> a picture of each modality, uint8 [M, H, W, 3].

    They are the image, its latents (three channels as colours), and what is decoded of x_t at time 0 and at `TIMES`.
    `scene` has the values [1, H, W, C] of each modality.
    """
    a, facts, size = architecture, architecture.facts, architecture.image_size
    clean = a.autoencoder.encode({m: MODALITIES[m].array(x, facts) for m, x in scene.items()})

    def looks(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {m: MODALITIES[m].picture(x, facts)[0] for m, x in values.items()}

    seen = {"image": looks(scene)}
    seen["latents"] = {m: _latents(np.asarray(z[0]), np.asarray(a.autoencoder.std[m]), size) for m, z in clean.items()}
    noise = {
        m: jax.random.normal(jax.random.fold_in(jax.random.key(0), i), z.shape)
        for i, (m, z) in enumerate(clean.items())
    }
    path = flow.PATHS[a.path]
    for t in (0.0, *TIMES):
        noisy = {m: flow.interpolate(path, z, noise[m], jnp.full(1, t))[0] for m, z in clean.items()}
        images = {m: np.asarray(x) for m, x in a.autoencoder.decode(noisy).items()}
        seen[f"t = {t:g}"] = looks(to_values(images, facts))
    return {label: np.stack(list(shown.values())) for label, shown in seen.items()}


def _latents(latents: np.ndarray, std: np.ndarray, size: int) -> np.ndarray:
    """The channels of latents [h, w, K] that vary most, three of them as colours, uint8 [size, size, 3]."""
    most = np.argsort(-std)[:3]
    scaled = latents[..., most] / (_RANGE * std[most]) / 2 + 0.5
    colours = np.round(255 * scaled.clip(0, 1)).astype(np.uint8)
    return pictures.enlarge(colours[None], size // len(colours))[0]


def main(argv: list[str]) -> None:
    del argv
    v = flags.FLAGS
    files.check_place(v.out, "--out", folder=False)
    chosen = settings.parse(v.config)
    architecture = opened(chosen, v.workdir).model.architecture
    data = chosen.data
    reader = open_split(data.dir, data.test_split, architecture.modalities, architecture.image_size)
    shown = columns(held_out.values(reader, [chosen.sample.index], architecture.facts), architecture)
    pictures.save_png(v.out, pictures.sheet(shown, names=architecture.modalities))
    say(f"look at {v.out}")


if __name__ == "__main__":
    command.run(main)
