"""Pictures of what a model in training can do: joint samples and predictions from held-out rgb."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from PIL import Image

from mmgen_jax import pictures
from mmgen_jax.architecture import Architecture, Params
from mmgen_jax.data import pipeline, tiles
from mmgen_jax.modalities import MODALITIES, to_array
from mmgen_jax.sampling import bind, sample, tasks

COUNT = 8  # samples of each kind
STEPS = 20  # of Heun's method


class Preview:
    """Samples from EMA parameters; always the same noise, classes and held-out tiles, so that steps compare.

    Calling it with (params, step) writes `workdir/samples/<step>.png` and returns that picture, uint8 [H, W, 3]:
    above, one joint sample of each of the first classes; below, predictions from held-out images of the first modality.
    """

    def __init__(self, architecture: Architecture, config: ConfigDict, workdir: epath.PathLike):
        self._architecture = architecture
        self._folder = epath.Path(workdir) / "samples"
        count = min(COUNT, len(tiles.read_tiles(config.data.dir, config.data.test_split)))
        self._batch = pipeline.load(
            config.data.dir, config.data.test_split, architecture.modalities, config.data.image_size, range(count)
        )
        self._sample = jax.jit(self._draw, static_argnames="given")

    def _draw(self, params: Params, class_id: jax.Array, pixels: dict[str, jax.Array], given: tuple[str, ...]):
        a = self._architecture
        task = jnp.full(class_id.shape, a.modalities.index(given[0]) + 1 if given else 0)
        velocity = bind(functools.partial(a.apply, params), class_id, task, a.modalities)
        clean = a.autoencoder.encode({m: to_array(pixels[m]) for m in given})
        shapes = {m: shape[1:] for m, shape in a.latent_shapes(1).items()}
        noise = tasks.noise(0, jnp.arange(len(class_id)), shapes)
        return a.autoencoder.decode(sample(velocity, noise, solver="heun", steps=STEPS, given=clean))

    def __call__(self, params: Params, step: int) -> np.ndarray:
        a, names = self._architecture, self._architecture.modalities
        pixels = {m: self._batch[m] for m in names}
        count = len(self._batch["class_id"])
        labels = jnp.arange(count) % max(len(a.class_names), 1)
        rows = []
        for given, class_id in (((), labels), (names[:1], jnp.full(count, a.null_class))):
            if len(given) == len(names):
                continue
            arrays = self._sample(params, class_id, pixels, given=given)
            arrays |= {m: to_array(pixels[m]) for m in given}
            shown = {m: MODALITIES[m].picture(MODALITIES[m].value(arrays[m], a.palette), a.palette) for m in names}
            rows.append(pictures.sheet(shown, given=given))
        picture = np.concatenate(rows)
        self._folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(self._folder / f"{step:08d}.png")
        return picture
