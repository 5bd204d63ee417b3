"""Pictures of what a model in training can do: joint samples, and predictions from held-out images."""

from __future__ import annotations

import dataclasses

import numpy as np
from etils import epath
from jax.sharding import Mesh

from mmgen_jax.data import held_out
from mmgen_jax.frozen.autoencoders.kl import AutoencoderKL
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.settings import Settings
from mmgen_jax.show import pictures
from mmgen_jax.system import hosts
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import NotFinite, UsageError, about_setting

COUNT = 8  # samples of each kind
FOLDER = "samples"


class Preview:
    """Draws samples of the averaged parameters, always with the same noise, classes and held-out tiles.

    So the pictures of different steps can be compared. Calling a preview with (params, step) writes
    `workdir/samples/<step>.png` and returns that picture, uint8 [H, W, 3]. The upper rows show one joint sample of each
    of the first classes, the lower rows predictions from held-out images of the first modality. The settings in
    `sample` say how samples are drawn. Without tiles (`data.dir` is empty) there are only joint samples. Samples that
    are not finite cannot be shown: a line says so, None is returned, and training goes on.

    Raises UsageError if `train.preview_decoder` names what is not a decoder of the model's latents.
    """

    def __init__(self, architecture: Architecture, chosen: Settings, workdir: epath.PathLike, mesh: Mesh | None = None):
        self._sampler = Sampler(_fast(architecture, chosen.train.preview_decoder), mesh)
        self._options = chosen.sample.options().plain()
        self._folder = epath.Path(workdir) / FOLDER
        self._given = _held_out(architecture, chosen) if chosen.data.dir and len(architecture.modalities) > 1 else {}

    def __call__(self, params: Params, step: int) -> np.ndarray | None:
        a = self._sampler.architecture
        try:
            rows = [self._sheet(params, np.arange(COUNT) % max(len(a.facts.class_names), 1), {}, "preview: joint")]
            if self._given:
                count = len(next(iter(self._given.values())))
                rows.append(self._sheet(params, np.full(count, a.null_class), self._given, "preview: given"))
        except NotFinite as error:
            say(f"no preview of step {step}: {error}")
            return None
        picture = np.concatenate(rows)
        if hosts.is_first():
            self._folder.mkdir(parents=True, exist_ok=True)
            pictures.save_png(self._folder / f"{step:08d}.png", picture)
        return picture

    def _sheet(self, params: Params, class_id: np.ndarray, given: dict[str, np.ndarray], stream: str) -> np.ndarray:
        a = self._sampler.architecture
        progress = Progress("preview", len(class_id), "samples")
        arrays = self._sampler(params, class_id, given, self._options, progress=progress, stream=stream) | given
        shown = {m: MODALITIES[m].picture(MODALITIES[m].value(arrays[m], a.facts), a.facts) for m in a.modalities}
        return pictures.sheet(shown, given=tuple(given))


def _fast(architecture: Architecture, path: str) -> Architecture:
    """With the tiny decoder at a path in place of the full one; unchanged where there is no path."""
    if not path:
        return architecture
    autoencoder = architecture.autoencoder
    with about_setting("train.preview_decoder", path):
        if not isinstance(autoencoder, AutoencoderKL):
            raise UsageError(f"it is for autoencoders of the kind 'kl'; that of the model is {autoencoder.name!r}")
        return dataclasses.replace(architecture, autoencoder=autoencoder.with_tiny_decoder(path))


def _held_out(architecture: Architecture, chosen: Settings) -> dict[str, np.ndarray]:
    """Arrays [COUNT, H, W, C] in [-1, 1] of the first modality of the first held-out tiles."""
    first, data = architecture.modalities[:1], chosen.data
    batch = held_out.first(data.dir, data.test_split, first, data.image_size, COUNT)
    return {m: to_array(batch[m]) for m in first}
