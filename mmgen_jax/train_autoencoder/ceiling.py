"""How well an autoencoder brings images back: on the way as lines and pictures, in the end beside PCA's as a table."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import numpy as np

from mmgen_jax.data import held_out, tiles
from mmgen_jax.frozen.abstract import Params
from mmgen_jax.frozen.autoencoders import conv
from mmgen_jax.frozen.autoencoders.conv import ConvAutoencoder
from mmgen_jax.frozen.autoencoders.conv_layers import ConvConfig
from mmgen_jax.metrics import dense, round_trip
from mmgen_jax.metrics.report import Scores
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.system.console import say
from mmgen_jax.training import setup

MEASURED = 512  # tiles that the statistics of the final latents are measured on
GLANCE = 32  # tiles for a look on the way
SHOWN = 4  # of these in a picture


def measured(chosen: Settings, config: ConvConfig, params: Params, count: int = MEASURED) -> ConvAutoencoder:
    """The autoencoder of trained weights, with the statistics of latents of tiles spread over the train split."""
    section = chosen.autoencoder
    images = setup.spread_images(chosen, count)
    return conv.whitened(config, params, images, section.whitening, section.dtype, section.chunk)


def scores(chosen: Settings, autoencoder: ConvAutoencoder) -> Scores:
    """Scores of round trips of held-out scenes, by this autoencoder and by PCA with as many numbers of latents."""
    data, names = chosen.data, chosen.data.modalities
    facts = tiles.read_facts(data.dir)
    read = held_out.Scenes.first
    scenes = read(data.dir, data.test_split, names, data.image_size, chosen.evaluate.n, chosen.evaluate.batch)
    numbers = {m: chosen.autoencoder.factor**2 * MODALITIES[m].channels for m in names}
    components = tuple(min(autoencoder.channels[m], numbers[m]) for m in names)
    say(f"fitting PCA with {', '.join(map(str, components))} components, to compare with")
    pca = setup.make_autoencoder(chosen.changed(autoencoder={"name": "patch_pca", "components": components}))
    return {found.name: round_trip.scores(found, scenes, facts) for found in (autoencoder, pca)}


class Glance:
    """Draws the first held-out tiles and what comes back of them, and prints their headline scores."""

    def __init__(self, chosen: Settings, config: ConvConfig):
        data = chosen.data
        self._chosen, self._config, self._facts = chosen, config, tiles.read_facts(data.dir)
        self._batch = held_out.first(data.dir, data.test_split, data.modalities, data.image_size, GLANCE)

    def __call__(self, params: Params, step: int) -> np.ndarray:
        """Averaged parameters and their step -> a picture uint8 [H, W, 3], the truth above."""
        autoencoder = measured(self._chosen, self._config, jax.tree.map(np.asarray, params), GLANCE)
        found = round_trip.scores(autoencoder, [self._batch], self._facts)
        say(f"round trip at step {step}: {dense.line(found)}")
        there = {m: to_array(self._batch[m][:SHOWN]) for m in self._config.modalities}
        back = round_trip.images(autoencoder, there)
        return np.concatenate([self._sheet(there), self._sheet(back)])

    def _sheet(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        kinds = {m: MODALITIES[m] for m in arrays}
        return pictures.sheet(
            {m: kind.picture(kind.value(arrays[m], self._facts), self._facts) for m, kind in kinds.items()}
        )
