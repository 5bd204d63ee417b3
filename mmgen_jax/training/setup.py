"""Settings -> the values that training, and what comes with it, are made of."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from mmgen_jax.checkpoints import model_folders, restore
from mmgen_jax.data import pipeline, tiles, train_data
from mmgen_jax.data.damage import Tally
from mmgen_jax.data.latents import dataset
from mmgen_jax.data.train_data import TrainData
from mmgen_jax.diffusion import flow, keys
from mmgen_jax.diffusion.conditioning import TIME_SAMPLERS, parse_mix
from mmgen_jax.frozen import dino, dino_files
from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system import console, hosts
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training.architecture import check_latent_settings, from_settings
from mmgen_jax.training.inputs import Inputs, LatentInputs, TileInputs
from mmgen_jax.training.objective import Objective
from mmgen_jax.training.optimizer import make_optimizer
from mmgen_jax.training.state import TrainState
from mmgen_jax.training.step import Training, make_training

FIT_TILES = 4096  # that an autoencoder is fitted on


def open_data(config: Settings) -> TrainData:
    """The train split of `data.latents` if that is set, else of `data.dir`; raises UsageError if it does not fit."""
    data, modalities = config.data, config.data.modalities
    if not data.latents:
        return train_data.open_tiles(data.dir, data.train_split, modalities, data.image_size, data.flip)
    return train_data.open_latents(
        data.latents,
        data.train_split,
        modalities,
        image_size=data.image_size,
        autoencoder=config.autoencoder.name,
        factor=config.autoencoder.factor,
        features=config.features.source,
        feature_width=config.model.feature_width,
        patch=config.model.patch,
    )


def make_autoencoder(config: Settings, latents_folder: epath.PathLike = "") -> Autoencoder:
    """The config's autoencoder: read from a file, or fitted on tiles spread over the train split.

    One that was fitted for the latents in a folder is kept there, and is taken from there.
    """
    names, chosen = config.data.modalities, config.autoencoder
    if latents_folder and registry.KINDS[chosen.name].fitted:
        if arrays := registry.load_arrays(latents_folder):
            return registry.rebuild({"name": chosen.name, "factor": chosen.factor}, names, arrays)
    return registry.build(chosen, names, functools.partial(_images_to_fit, config))


def _images_to_fit(config: Settings) -> dict[str, np.ndarray]:
    """Arrays [N, H, W, C] in [-1, 1] of each modality, from tiles spread over the train split that have it."""
    names = config.data.modalities
    total = len(tiles.read_tiles(config.data.dir, config.data.train_split))
    spread = np.linspace(0, total - 1, min(FIT_TILES, total)).round().astype(int)
    tally = Tally(config.data.max_damaged, total, say)
    batch = pipeline.load(config.data.dir, config.data.train_split, names, config.data.image_size, spread, tally)
    return {m: to_array(batch[m][batch["present"][:, i]]) for i, m in enumerate(names)}


def make_architecture(config: Settings, workdir: epath.Path, data: TrainData) -> Architecture:
    """The architecture that the config asks for.

    The autoencoder, and what the data do not say (classes, palette), are those of the model in the workdir or, before
    there is one, of `train.init_from`. Raises UsageError if that model has another architecture.
    """
    if (workdir / architectures.FILE).exists():
        stored, where = architectures.load(workdir), workdir
    elif config.train.init_from:
        stored, where = architectures.load(model_folders.locate(config.train.init_from)), config.train.init_from
    else:
        empty = np.zeros((0, 3), np.uint8)
        palette = data.palette if data.palette is not None else empty
        autoencoder = make_autoencoder(config, config.data.latents)
        return from_settings(config, autoencoder, data.class_names, palette, data.regions)
    check_latent_settings(config, stored, where)
    stored = _with_facts(stored, data)
    wanted = from_settings(
        config,
        stored.autoencoder.configured(config.autoencoder),
        data.class_names or stored.class_names,
        stored.palette if data.palette is None else data.palette,
        stored.regions if data.palette is None else data.regions,
    )
    conflict = architectures.difference(wanted, stored)
    if conflict:
        raise UsageError(f"{where} holds another architecture: the config's {conflict}")
    return wanted


def _with_facts(stored: Architecture, data: TrainData) -> Architecture:
    """A stored architecture with what the data tell and it does not: converted ones number their classes."""
    count = len(stored.class_names)
    if data.class_names and len(data.class_names) == count and stored.class_names == tuple(map(str, range(count))):
        stored = dataclasses.replace(stored, class_names=data.class_names)
    if data.palette is not None and not len(stored.palette):
        stored = dataclasses.replace(stored, palette=data.palette, regions=data.regions)
    return stored


def make_objective(config: Settings) -> Objective:
    """The config's objective section as a value."""
    chosen = config.objective
    return Objective(
        path=flow.PATHS[chosen.path],
        mix=parse_mix(chosen.mix, config.data.modalities),
        time_sampler=TIME_SAMPLERS[chosen.time],
        loss_weights=chosen.loss_weights,
        alignment_weight=chosen.alignment_weight,
        label_dropout=chosen.label_dropout,
    )


def assemble(config: Settings, architecture: Architecture, mesh: Mesh) -> Training:
    """The step and the state that a config asks for. Raises UsageError if the mesh cannot share its batch."""
    sharding.check_batch(config.train.batch // config.train.accumulate, mesh, "train.batch / train.accumulate")
    return make_training(
        architecture,
        make_objective(config),
        make_optimizer(config.optim, config.train.steps),
        mesh,
        seed=config.seed,
        accumulate=config.train.accumulate,
        ema_decay=config.optim.ema_decay,
        ema_ramp=config.optim.ema_ramp,
    )


def make_inputs(config: Settings, autoencoder: Autoencoder) -> Inputs:
    """How batches become latents and features."""
    kind = LatentInputs if config.data.latents else TileInputs
    return kind(autoencoder, load_dino(config) if config.features.source == "online" else None)


def check_latents(config: Settings, autoencoder: Autoencoder) -> None:
    """Raises UsageError unless the stored latents are those of this autoencoder, as far as they tell."""
    info = dataset.read_info(config.data.latents)
    known = json.loads(json.dumps(autoencoder.spec))
    for key, found in info.autoencoder.items():
        if known.get(key) != found:
            raise UsageError(
                f"{config.data.latents} has latents of an autoencoder whose {key} is {found!r}; "
                f"the model's is {known.get(key)!r}"
            )
    for m, channels in info.layout.modalities:
        if m in autoencoder.channels and autoencoder.channels[m] != channels:
            raise UsageError(
                f"{config.data.latents} has {channels} channels of {m}; the model has {autoencoder.channels[m]}"
            )


def load_dino(config: Settings) -> dino.Dino:
    """DINOv2 with one patch for each of the model's tokens."""
    grid = config.data.image_size // (config.autoencoder.factor * config.model.patch)
    return dino_files.load(config.features.path, dtype=config.features.dtype, grid=grid)


def restore_or_init(config: Settings, training: Training, workdir: epath.Path) -> tuple[TrainState, dict]:
    """The state to start from and what its checkpoint says of the data it has seen; writes nothing.

    Order of sources: the newest checkpoint of the workdir, `train.init_from`, fresh parameters.
    """
    folder = restore.folder_of(workdir)
    if restore.steps_in(folder):
        state, meta = restore.restore(workdir, training.state)
        say(f"resuming from step {int(state.step)} in {folder}")
        return state, meta
    state = training.init(keys.of_seed(config.seed, "init"))
    if config.train.init_from:
        _, params = model_folders.load(config.train.init_from)
        where = jax.tree.map(lambda leaf: leaf.sharding, training.state.params)
        # Twice, since donated buffers may not be aliased.
        params, ema = (jax.device_put(jax.tree.map(np.array, params), where) for _ in range(2))
        state = TrainState(state.step, params, ema, state.opt_state)
        say(f"starting from the weights of {config.train.init_from}")
    return state, {"samples": 0}


def open_batches(
    config: Settings, data: TrainData, mesh: Mesh, meta: Mapping[str, int]
) -> tuple[Iterator[pipeline.Batch], Tally]:
    """What this process reads of each global batch, from where the checkpoint's `meta` says; counts damaged records."""
    tally = Tally(
        config.data.max_damaged,
        len(data.source),
        console.say_here,
        hosts.total,
        found=meta.get("damaged", 0),
        read=meta["samples"],
    )
    parts, of = sharding.batch_parts(mesh)
    batches = pipeline.batches(
        data.source,
        data.transforms,
        config.train.batch,
        seed=config.seed,
        step=meta["samples"] // config.train.batch,
        parts=parts,
        of=of,
        workers=config.data.workers,
        tally=tally,
    )
    return batches, tally
