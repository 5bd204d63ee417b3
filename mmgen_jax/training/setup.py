"""Makes the parts of a training run from its settings: data, autoencoder, architecture, objective, step and state."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from mmgen_jax.checkpoints import model_folders, restore
from mmgen_jax.data import fingerprint, pipeline, train_data
from mmgen_jax.data.damage import Tally
from mmgen_jax.data.latents import dataset
from mmgen_jax.data.train_data import TrainData
from mmgen_jax.diffusion import flow, keys
from mmgen_jax.diffusion.conditioning import TIME_SAMPLERS, parse_mix, row_sizes
from mmgen_jax.frozen import dino, dino_files
from mmgen_jax.frozen.autoencoders import arrays_file, registry
from mmgen_jax.frozen.autoencoders.protocol import Autoencoder
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models import architectures
from mmgen_jax.models.architectures import Architecture, Params
from mmgen_jax.parallel import sharding
from mmgen_jax.settings import Settings
from mmgen_jax.system import console, hosts
from mmgen_jax.system.console import say
from mmgen_jax.system.errors import UsageError, about_setting
from mmgen_jax.telemetry import memory
from mmgen_jax.training.architecture import check_latent_settings, from_settings
from mmgen_jax.training.inputs import Inputs, LatentInputs, TileInputs
from mmgen_jax.training.objective import Objective
from mmgen_jax.training.state import TrainState
from mmgen_jax.training.step import Training, make_training

FIT_TILES = 4096  # largest number of tiles that an autoencoder is fitted on
SPREAD_PIXELS = 2**25  # of each modality in `spread_images`: 512 tiles of 256 x 256, or 8,192 of 64 x 64


def open_data(chosen: Settings) -> TrainData:
    """Opens the train split of `data.latents` if that is set, else of `data.dir`.

    Raises UsageError if the data do not fit the settings.
    """
    data, modalities = chosen.data, chosen.data.modalities
    if not data.latents:
        return train_data.open_tiles(data.dir, data.train_split, modalities, data.image_size, data.flip)
    return train_data.open_latents(
        data.latents,
        data.train_split,
        modalities,
        image_size=data.image_size,
        autoencoder=chosen.autoencoder.name,
        factor=chosen.autoencoder.factor,
        features=chosen.features.source,
        feature_width=chosen.model.feature_width,
        patch=chosen.model.patch,
    )


def make_autoencoder(chosen: Settings, latents_folder: epath.PathLike = "") -> Autoencoder:
    """Makes the autoencoder that the settings name: reads it from a file, or fits it on tiles of the train split.

    An autoencoder that was fitted when latents were encoded is stored in the folder of these latents. With
    `latents_folder` it is read from there instead of being fitted again.
    """
    names, section = chosen.data.modalities, chosen.autoencoder
    if latents_folder and registry.KINDS[section.name].fitted:
        if arrays := arrays_file.load_arrays(latents_folder):
            return registry.rebuild({"name": section.name, "factor": section.factor}, names, arrays)
    with about_setting("autoencoder.path", section.path) if section.path else contextlib.nullcontext():
        return registry.build(section, names, functools.partial(spread_images, chosen, FIT_TILES))


def spread_images(chosen: Settings, count: int) -> dict[str, np.ndarray]:
    """Arrays [N, H, W, C] in [-1, 1] of each modality, from at most `count` tiles of the train split that have it.

    Of large tiles there are fewer, with `SPREAD_PIXELS` in all, as all of them are in memory.
    """
    data, names = chosen.data, chosen.data.modalities
    reader = pipeline.open_split(data.dir, data.train_split, names, data.image_size)
    count = min(count, len(reader), max(1, SPREAD_PIXELS // data.image_size**2))
    spread = np.linspace(0, len(reader) - 1, count).round().astype(int)
    batch = reader.load(spread, Tally(data.max_damaged, len(reader), say))
    return {m: to_array(batch[m][batch["present"][:, i]]) for i, m in enumerate(names)}


def make_architecture(chosen: Settings, workdir: epath.PathLike, data: TrainData) -> Architecture:
    """Makes the architecture that the settings ask for.

    If the workdir holds a model, or else `train.init_from` names one, the autoencoder comes from that model, and so do
    class names and palette if the data have none. Raises UsageError if that model has another architecture (of
    `train.init_from` the classes, `decoupled` and `guided` may differ), and for a modality that neither a sample nor
    that model has.
    """
    absent = train_data.absent(data, chosen.data.modalities)
    if (epath.Path(workdir) / architectures.FILE).exists():
        stored, where = architectures.load(workdir), workdir
    elif chosen.train.init_from:
        with about_setting("train.init_from", chosen.train.init_from):
            stored, where = architectures.load(model_folders.locate(chosen.train.init_from)), chosen.train.init_from
        stored = stored.with_classes(data.facts.class_names or stored.facts.class_names)
        # A flow map has the same weights as the model that it is made of, and `scale_embed.fit` gives it the others.
        free = dataclasses.replace(stored.model, decoupled=chosen.model.decoupled, guided=chosen.model.guided)
        stored = dataclasses.replace(stored, model=free)
    else:
        if absent:
            raise UsageError(f"config key data.modalities has {', '.join(absent)}, which no sample of the data has")
        return from_settings(chosen, make_autoencoder(chosen, chosen.data.latents), data.facts)
    if absent:
        say(f"no sample of the data has {', '.join(absent)}: what {where} knows of it is not trained")
    check_latent_settings(chosen, stored, where)
    named = stored.facts.named(data.facts.class_names)  # where the model's classes had only numbers so far
    known, new = named.class_names, data.facts.class_names
    if new and new != known:
        raise UsageError(
            f"{where} has the {len(known)} classes {known[:3]}...; the data have {len(new)}, {new[:3]}...; allowed: "
            "the same, or a new workdir with train.init_from, which gives that model the classes of the data"
        )
    stored = dataclasses.replace(stored, facts=named.completed(data.facts))
    autoencoder = stored.autoencoder.configured(chosen.autoencoder)
    wanted = from_settings(chosen, autoencoder, data.facts.completed(stored.facts))
    conflict = architectures.difference(wanted, stored, "the workdir")
    if conflict:
        raise UsageError(f"{where} holds another architecture: the config's {conflict}")
    return wanted


def make_objective(chosen: Settings) -> Objective:
    """Makes the training objective of the settings in `objective`."""
    section, mix = chosen.objective, parse_mix(chosen.objective.mix, chosen.data.modalities)
    for row, parsed, size in zip(section.mix, mix, row_sizes(mix, chosen.train.batch), strict=True):
        if parsed.share and not size:
            raise UsageError(f"row {row} of objective.mix gets none of the train.batch = {chosen.train.batch} samples")
    if section.decoded_weight and "rgb" not in chosen.data.modalities:
        raise UsageError(
            f"objective.decoded_weight is {section.decoded_weight}, but data.modalities has no rgb; allowed: 0"
        )
    return Objective(
        path=flow.PATHS[section.path],
        mix=mix,
        time_sampler=TIME_SAMPLERS[section.time],
        loss_weights=section.loss_weights or tuple(MODALITIES[m].loss_weight for m in chosen.data.modalities),
        alignment_weight=section.alignment_weight,
        alignment_norm=section.alignment_norm,
        label_dropout=section.label_dropout,
        guided_share=section.guided_share,
        decoded_weight=section.decoded_weight,
    )


def assemble(chosen: Settings, architecture: Architecture, mesh: Mesh) -> Training:
    """Makes the training step and the shapes of its state. Raises UsageError if the mesh cannot split the batch."""
    sharding.check_batch(chosen.train.batch // chosen.train.accumulate, mesh, "train.batch / train.accumulate")
    return make_training(chosen, architecture, make_objective(chosen), mesh)


def make_inputs(chosen: Settings, autoencoder: Autoencoder) -> Inputs:
    """Makes the value that turns batches, of tiles or of stored latents, into latents and features."""
    kind = LatentInputs if chosen.data.latents else TileInputs
    return kind(autoencoder, load_dino(chosen) if chosen.features.source == "online" else None)


def check_latents(chosen: Settings, autoencoder: Autoencoder) -> None:
    """Raises UsageError if the stored latents were made by another autoencoder, as far as their folder says."""
    info = dataset.read_info(chosen.data.latents)
    known = json.loads(json.dumps(autoencoder.spec))
    for key, found in info.autoencoder.items():
        if known.get(key) != found:
            raise UsageError(
                f"{chosen.data.latents} has latents of an autoencoder whose {key} is {found!r}; "
                f"the model's is {known.get(key)!r}"
            )
    for m, channels in info.layout.modalities:
        if m in autoencoder.channels and autoencoder.channels[m] != channels:
            raise UsageError(
                f"{chosen.data.latents} has {channels} channels of {m}; the model has {autoencoder.channels[m]}"
            )


def load_dino(chosen: Settings) -> dino.Dino:
    """Loads DINOv2, set up to return one feature for each of the model's tokens."""
    grid = chosen.data.image_size // (chosen.autoencoder.factor * chosen.model.patch)
    with about_setting("features.path", chosen.features.path):
        return dino_files.load(chosen.features.path, dtype=chosen.features.dtype, grid=grid)


def restore_or_init(
    chosen: Settings, training: Training, start: Callable[[str], Params | None], workdir: epath.PathLike
) -> tuple[TrainState, dict]:
    """The state to start from, and the numbers in its checkpoint that say which data it has seen. Writes nothing.

    The state comes from the newest checkpoint of the workdir; if there is none, it has the parameters that `start`
    makes of `train.init_from`, or fresh ones if that is None.
    """
    folder = restore.folder_of(workdir)
    if restore.steps_in(folder):
        state, meta = restore.restore(workdir, training.state)
        say(f"resuming from step {int(state.step)} in {folder}")
        return state, meta
    _check_memory(training.state)
    state = training.init(keys.of_seed(chosen.seed, "init"))
    source = chosen.train.init_from
    with about_setting("train.init_from", source) if source else contextlib.nullcontext():
        params = start(source)
    if params is not None:
        where = jax.tree.map(lambda leaf: leaf.sharding, training.state.params)
        # Parameters and averages need buffers of their own, since the step donates both.
        params, ema = (jax.device_put(jax.tree.map(np.array, params), where) for _ in range(2))
        state = TrainState(state.step, params, ema, state.opt_state)
    if source:
        say(f"starting from the weights of {source}")
    return state, {"samples": 0}


def _check_memory(state: TrainState) -> None:
    """Raises UsageError if the devices cannot hold their parts of an abstract state."""
    leaves = jax.tree.leaves(state)
    needed = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)
    if needed > (there := memory.of_device()):
        count = sum(p.size for p in jax.tree.leaves(state.params))
        raise UsageError(
            f"a model of {count / 1e6:.1f} M parameters needs {needed / 1e9:.1f} GB on each device for parameters, "
            f"average and moments, which have {there / 1e9:.1f} GB; make model.depth, model.width or model.mlp_ratio "
            "(of an autoencoder autoencoder.width or autoencoder.blocks) smaller, or mesh.fsdp larger"
        )


def _check_data(chosen: Settings, data: TrainData, meta: Mapping[str, Any]) -> None:
    """Raises UsageError if a checkpoint's `meta` is of a run on other data, unless the settings accept that."""
    before = str(meta.get("data", data.fingerprint))  # older checkpoints do not say it
    if not fingerprint.same(before, data.fingerprint) and not chosen.data.accept_change:
        key, folder = ("latents", chosen.data.latents) if chosen.data.latents else ("dir", chosen.data.dir)
        raise UsageError(
            f"config key data.{key} is {folder!r}, whose {chosen.data.train_split} is not what the run was trained on "
            f"so far ({data.fingerprint.partition(':')[0]} records, before {before.partition(':')[0]}); "
            "allowed: the same data, or data.accept_change = True"
        )


def open_batches(
    chosen: Settings, data: TrainData, mesh: Mesh, meta: Mapping[str, Any]
) -> tuple[pipeline.Batches, Tally]:
    """Opens the batches that this process reads, from the sample on at which the checkpoint's `meta` says to continue.

    Returns the iterator over this process's part of each global batch, and the tally that counts damaged records.
    Raises UsageError if the checkpoint is of a run on other data.
    """
    _check_data(chosen, data, meta)
    if chosen.train.batch > (count := len(data.source)):
        say(f"train.batch is {chosen.train.batch}, more than the {count} samples of data.train_split: some come twice")
    tally = Tally(
        chosen.data.max_damaged,
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
        chosen.train.batch,
        seed=chosen.seed,
        step=meta["samples"] // chosen.train.batch,
        parts=parts,
        of=of,
        workers=chosen.data.workers,
        tally=tally,
    )
    return batches, tally
