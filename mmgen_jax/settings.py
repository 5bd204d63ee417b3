"""Every setting there is, one line each: its default, what it may be, and what it means.

The defaults are the published recipe (MMGen on ImageNet at 256 x 256) where it has a value. Files in `configs/` start
from `defaults()` and change a few; any value can be changed on the command line: --config.optim.learning_rate=3e-4
A command calls `parse` once; what it calls gets frozen values. This prints the list:

python -m mmgen_jax.settings
"""

from __future__ import annotations

from mmgen_jax.system import command

if __name__ == "__main__":
    command.parse()  # before the imports below, which take seconds

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ml_collections import ConfigDict

from mmgen_jax import settings_checks
from mmgen_jax.diffusion.conditioning import TIME_SAMPLERS
from mmgen_jax.diffusion.flow import PATHS
from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.models.mmdit import DTYPES, FIELDS
from mmgen_jax.sampling import SOLVERS
from mmgen_jax.sampling.classification import Effort
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.request_files import RequestFiles
from mmgen_jax.system import settings_page
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.home import expanded
from mmgen_jax.system.rules import (
    ADDED,
    BELOW_ONE,
    POSITIVE,
    RATE,
    SIZE_OR_REST,
    SWITCH,
    TEXT,
    WEIGHT,
    declared,
    each,
    integer,
    number,
    one_of,
    require,
    rows,
    rules,
    setting,
    some_of,
)

SHARE = number(0, 1)
MIX_ROW = "(share, given, given_time, supervised[, ignored[, times]]); numbers 0 to 1, the others text"
MIX = rows(MIX_ROW, SHARE, TEXT, SHARE, TEXT, optional=(TEXT, TEXT))
PUBLISHED_MIX = ((0.50, "none", 0.00, "rgb"), (0.25, "none", 0.00, "drop"), (0.25, "one", 0.01, "drop"))


@dataclass(frozen=True)
class Distributed:
    """Training on several hosts: the same command on each.

    coordinator "": TPU hosts find each other, elsewhere one process; "auto": also SLURM, MPI, Kubernetes; "none": one
    process; or host:port of the first process, with `processes` and `process`.
    """

    coordinator: str = setting("", TEXT, 'empty, "auto", "none" or host:port of the first process')
    processes: int = setting(1, integer(1), "how many processes there are")
    process: int = setting(0, integer(0), "number of this process, the only setting that may differ between hosts")


@dataclass(frozen=True)
class Data:
    """Data sets of tiles, and latents that were made of them."""

    dir: str = setting("data/tiles", TEXT, "folder of a TFDS data set of tiles")
    latents: str = setting("", TEXT, "folder that mmgen_jax.encode wrote; training reads it instead of the tiles")
    image_size: int = setting(256, integer(1, 65_536), "height and width of the images, in pixels")
    modalities: tuple[str, ...] = setting(("rgb", "depth", "normal", "mask"), some_of(*NAMES), "what samples have")
    train_split: str = setting("train", TEXT, 'split to train on; TFDS slicing works: "train[:90%]"')
    test_split: str = setting("test", TEXT, "where sampling and evaluation take their conditions from")
    flip: bool = setting(True, SWITCH, "mirror half of the tiles, all modalities alike")
    workers: int = setting(0, integer(0), "reading processes; 0 reads in threads of the training process")
    accept_change: bool = setting(False, SWITCH, "continue a run on another data set than it was trained on so far")
    timeout: float = setting(600.0, POSITIVE, "seconds to wait for a batch before the run ends: reading hangs")
    max_damaged: float = setting(0.001, number(0, 1), "share of records that may be damaged and are replaced; 0 = none")


@dataclass(frozen=True)
class Autoencoder:
    """What makes latents of images."""

    name: str = setting("identity", one_of(*registry.NAMES), "pixels, PCA fitted on tiles, or trained before")
    path: str = setting("", TEXT, "kl: diffusers folder, file or hub id; conv: its workdir; the weights are kept")
    dtype: str = setting("float32", one_of(*DTYPES), "kl, conv: type that they multiply in")
    chunk: int = setting(16, integer(1), "kl, conv: images at once, on all devices; kl: 0.24 GB each at 256 pixels")
    factor: int = setting(8, integer(1), "pixels per latent position, each way")
    components: tuple[int, ...] = setting((), each(integer(1)), "patch_pca: latent channels of each modality")
    whitening: float = setting(0.5, number(0, 1), "patch_pca, train_autoencoder: 1 = channels alike, 0 = pixels")
    channels: int = setting(32, integer(1, 10_000), "train_autoencoder: latent channels of each modality")
    width: int = setting(64, integer(1, 10_000), "train_autoencoder: channels of 4 x 4 pixels, double at each halving")
    blocks: int = setting(2, integer(1, 1_000), "train_autoencoder: residual blocks at each resolution, both ways")
    noise: float = setting(0.1, number(0, 10), "train_autoencoder: noise on latents, whose deviation begins as 1")


@dataclass(frozen=True)
class Features:
    """Features of rgb by DINOv2, to align the model's tokens with."""

    source: str = setting("none", one_of("none", "stored", "online"), "stored with latents, or computed in every step")
    path: str = setting("", TEXT, 'DINOv2: weights file, transformers folder or hub id; for "online" and for encode')
    dtype: str = setting("bfloat16", one_of(*DTYPES), "type that DINOv2 multiplies matrices in")


@dataclass(frozen=True)
class Encode:
    """python -m mmgen_jax.encode: tiles -> data.latents."""

    dtype: str = setting("float16", one_of("float16", "bfloat16"), "of the latents as stored")
    batch: int = setting(32, integer(1), "tiles computed at once")
    features: bool = setting(False, SWITCH, "also store the features of DINOv2: most of the bytes")
    rgb: bool = setting(False, SWITCH, "also store the rgb pixels, so that features can be computed online")
    mirror: bool = setting(False, SWITCH, "also store each tile mirrored, as latents cannot be")
    shard: int = setting(4096, integer(1), "tiles in one file, the unit of restarting")


@dataclass(frozen=True)
class Model:
    """The diffusion transformer; the defaults are XL/2."""

    depth: int = setting(28, FIELDS["depth"], "blocks")
    width: int = setting(1152, FIELDS["width"], "numbers per token")
    heads: int = setting(16, FIELDS["heads"], "attention heads")
    encoder_depth: int = setting(8, FIELDS["encoder_depth"], "alignment reads the tokens after this block")
    patch: int = setting(2, FIELDS["patch"], "latent positions per token, each way")
    mlp_ratio: float = setting(4.0, FIELDS["mlp_ratio"], "hidden width of the MLPs over width")
    projector_width: int = setting(2048, FIELDS["projector_width"], "hidden width of the alignment projector")
    projector: str = setting("mlp", FIELDS["projector"], "conv: a 3 x 3 convolution over tokens instead (iREPA)")
    feature_width: int = setting(0, FIELDS["feature_width"], "width of the features (768 for ViT-B); 0 = no alignment")
    dtype: str = setting("float32", FIELDS["dtype"], "type that matrices are multiplied in; parameters are float32")
    remat: str = setting("none", FIELDS["remat"], "recomputed in the backward pass; names = all except matrix products")
    attention: str = setting("auto", FIELDS["attention"], "pallas: a kernel for TPUs; auto: the fastest")
    unroll: int = setting(1, integer(1), "blocks per iteration of the scan over depth; depth or more = no loop")
    precondition: bool = setting(False, SWITCH, "network output scaled by the data's variance, still a velocity")
    decoupled: float = setting(0.0, FIELDS["decoupled"], "share of blocks of a flow map that see t; 0 = no flow map")
    guided: float = setting(0.0, FIELDS["guided"], "largest scale of guidance that is an input; 0 = it is none")
    recipe: str = setting("published", FIELDS["recipe"], "blocks; modern: RMSNorm, RoPE, query-key norm, SwiGLU, ...")


@dataclass(frozen=True)
class Mesh:
    """How devices share the work; the product of the axes is the number of devices, one may be -1."""

    data: int = setting(-1, SIZE_OR_REST, "samples are split; every device of this axis has all weights")
    fsdp: int = setting(1, SIZE_OR_REST, "samples, weights, averages and moments are split; gathered block by block")
    tensor: int = setting(1, SIZE_OR_REST, "heads and MLP of every block are split")


@dataclass(frozen=True)
class Objective:
    """What is learned.

    Rows of the mix are (share of the batch, given, t of the given, supervised, ignored, times); the last two may be
    left out. given: "none", "one" (any single modality), "any" (any non-empty proper subset) or names as "rgb+depth";
    supervised: "all", "drop" (all, except randomly dropped pairs of sample and modality) or names; ignored: "none",
    "one", "any" (any subset of the others) or names; times: "common" (one t for all that is not given), "own" (each).
    """

    path: str = setting("linear", one_of(*PATHS), "cosine: not with model.precondition, and not for euler_maruyama")
    time: str = setting("uniform", one_of(*TIME_SAMPLERS), "distribution of t")
    mix: tuple[tuple, ...] = setting(PUBLISHED_MIX, MIX, "tasks and their shares of the batch")
    loss_weights: tuple[float, ...] = setting((), each(WEIGHT), "of each velocity loss; empty = as published")
    alignment_weight: float = setting(0.5, WEIGHT, "of representation alignment, where there are features")
    alignment_norm: float = setting(0.0, number(0, 1), "0 or the share of their mean that features lose (iREPA)")
    guided_share: float = setting(0.5, number(0, 1), "of samples that learn a guided velocity, with model.guided")
    decoded_weight: float = setting(0.0, WEIGHT, "of errors of images that one call predicts from rgb alone")
    label_dropout: float = setting(0.1, number(0, 1), "share of samples trained with the null class")


@dataclass(frozen=True)
class Optim:
    """The optimizer, its learning rate, and the averaged parameters."""

    name: str = setting("adamw", one_of("adamw", "muon"), "muon is for the matrices of blocks; all else has adamw")
    learning_rate: float = setting(1e-4, RATE, "after warmup")
    warmup_steps: int = setting(0, integer(0), "linear from 0")
    decay_steps: int = setting(0, integer(0), "linear to 0 over this many last steps")
    b1: float = setting(0.9, BELOW_ONE, "decay of the first moment")
    b2: float = setting(0.999, BELOW_ONE, "decay of the second moment")
    eps: float = setting(1e-8, ADDED, "added to the root of the second moment")
    weight_decay: float = setting(0.0, WEIGHT, "decoupled, times the learning rate")
    moment_dtype: str = setting("float32", one_of(*DTYPES), "of the first moment; the second is float32")
    momentum: float = setting(0.95, BELOW_ONE, "of muon, which has no second moment")
    clip_norm: float = setting(1.0, POSITIVE, "limit of the norm of the whole gradient")
    ema_decay: float = setting(0.9999, number(0, 1), "of the averaged parameters that sampling uses")
    ema_ramp: float = setting(1.0, number(1), "above 1: decay = min(ema_decay, (1 + step) / (ema_ramp + step))")


@dataclass(frozen=True)
class Train:
    """The run."""

    batch: int = setting(256, integer(1), "samples of a step, over all hosts and devices")
    accumulate: int = setting(1, integer(1), "parts of the batch that are computed one after another")
    steps: int = setting(600_000, integer(1), "steps of the whole run")
    log_every: int = setting(100, integer(1), "steps between lines of the log")
    save_every: int = setting(5_000, integer(1), "steps between checkpoints")
    keep: int = setting(2, integer(1), "newest checkpoints that stay")
    keep_best: int = setting(1, integer(0), "besides, those of the lowest mean loss since the last line of the log")
    sample_every: int = setting(10_000, integer(0), "steps between grids of samples in workdir/samples; 0 = none")
    preview_decoder: str = setting("", TEXT, "kl: tiny decoder (TAESD) for these grids: folder, file or hub id")
    evaluate_every: int = setting(0, integer(0), "steps between scores of a few held-out scenes; 0 = none")
    evaluate_n: int = setting(64, integer(1), "of these scenes, the first ones; all if there are fewer")
    max_skipped: int = setting(0, integer(0), "steps since the start that may be not finite before a run stops")
    spike_factor: float = setting(5.0, number(1), "losses above this times the median of 100 steps are logged")
    init_from: str = setting("", TEXT, "workdir or bundled model whose averaged parameters a new run starts from")


@dataclass(frozen=True)
class Sample(RequestFiles, Options):
    """How samples are made."""

    task: str = setting("category", TEXT, '"category", or what is given: "rgb", "depth", "rgb+mask", ...')
    class_id: str = setting("", TEXT, 'index or name; "each" = all classes in turn; empty = no class')
    n: int = setting(8, integer(1), "samples")
    checkpoint: int = setting(-1, integer(-1), "step of the checkpoint; -1 = the newest")
    save: str = setting("", TEXT, 'modalities whose files are written, as "rgb+depth"; empty = all')
    index: int = setting(0, integer(0), "first sample of data.test_split to take conditions from")
    weak: str = setting("", TEXT, "smaller or earlier model of the same modalities, for autoguidance; as --workdir")
    to_seed: int = setting(-1, integer(-1), "samples go from the noise of seed to that of this one; -1 = none")
    invert_class: str = setting("", TEXT, "index or name of the class of the files that are inverted; empty = none")

    def options(self) -> Options:
        """How samples are drawn, as `sampling.sampler` takes it."""
        return Options(**{field.name: getattr(self, field.name) for field in fields(Options)})

    @property
    def step(self) -> int | None:
        """Step of the checkpoint to read; None = the newest."""
        return None if self.checkpoint < 0 else self.checkpoint


@dataclass(frozen=True)
class Evaluate:
    """Scores on held-out scenes."""

    n: int = setting(512, integer(1), "held-out scenes, the first ones; all if there are fewer")
    samples: int = setting(256, integer(0), "generated scenes, of all classes in turn; 0 = none")
    batch: int = setting(64, integer(1), "scenes computed at once")
    draws: int = setting(1, integer(1), "predictions of each scene, which are combined")
    seeds: int = setting(1, integer(1), "evaluations, with seed, seed + 1, ..., of which means are told")
    steps: int = setting(4, integer(1), "steps of the solver, for predictions from rgb")
    temperature: float = setting(0.0, number(0, 10), "of predictions from rgb; several draws need one above 0")
    solver: str = setting("euler", one_of(*SOLVERS), "for predictions from rgb")
    tasks: tuple[str, ...] = setting(
        (), each(TEXT), 'also scored, if there is time: "rgb->depth", "two->rgb"; "one->each" is all pairs'
    )


@dataclass(frozen=True)
class Classify(Effort):
    """Zero-shot classification of held-out scenes or of the files in `sample.given`."""

    given: str = setting("rgb", TEXT, 'what is observed of scenes: "rgb", "depth+mask", ...')
    n: int = setting(512, integer(1), "held-out scenes, the first ones; all if there are fewer")
    calibrate: int = setting(0, integer(0), "of these, the first ones find the temperature, and the others are scored")

    def effort(self) -> Effort:
        """How classes are told apart, as `MMGen.classify` takes it."""
        return Effort(**{field.name: getattr(self, field.name) for field in fields(Effort)})


@dataclass(frozen=True)
class Settings:
    """All settings of a run, by section. `Settings()` has the defaults; what `parse` returns is checked."""

    seed: int = setting(0, integer(0), "of parameters, data order, noise: a run is a function of its settings")
    distributed: Distributed = dataclasses.field(default_factory=Distributed)
    data: Data = dataclasses.field(default_factory=Data)
    autoencoder: Autoencoder = dataclasses.field(default_factory=Autoencoder)
    features: Features = dataclasses.field(default_factory=Features)
    encode: Encode = dataclasses.field(default_factory=Encode)
    model: Model = dataclasses.field(default_factory=Model)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    objective: Objective = dataclasses.field(default_factory=Objective)
    optim: Optim = dataclasses.field(default_factory=Optim)
    train: Train = dataclasses.field(default_factory=Train)
    sample: Sample = dataclasses.field(default_factory=Sample)
    evaluate: Evaluate = dataclasses.field(default_factory=Evaluate)
    classify: Classify = dataclasses.field(default_factory=Classify)

    def changed(self, **sections: Mapping[str, object]) -> Settings:
        """A copy with some values of some sections replaced, `changed(train={"batch": 8})`; see `check`."""
        return dataclasses.replace(
            self, **{name: dataclasses.replace(getattr(self, name), **new) for name, new in sections.items()}
        )

    def to_json(self) -> str:
        """All values as a workdir keeps them in config.json."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def defaults() -> ConfigDict:
    """The default of every setting, for a recipe to change."""
    return ConfigDict(dataclasses.asdict(Settings()))


def parse(config: ConfigDict) -> Settings:
    """A recipe as frozen values. Raises UsageError naming the first setting that is unknown, missing or not allowed."""
    # A recipe that was written out before a modality was registered has no entries for it.
    own = {name: value for name, _, value in declared(Settings()) if name.split(".")[2:3] and name.endswith(NAMES)}
    entries, known = own | _flat(config), rules(Settings())
    if unknown := [name for name in entries if name not in known]:
        raise UsageError(f"unknown config key {unknown[0]}")
    if missing := [name for name in known if name not in entries]:
        raise UsageError(f"config key {missing[0]} is missing; it must be {known[missing[0]].words}")
    return check(_filled(Settings(), entries))


def _flat(config: ConfigDict, prefix: str = "") -> dict[str, object]:
    """Dotted name -> value, with the home folder in place of "~"."""
    entries: dict[str, object] = {}
    for key, value in config.items():
        entries |= _flat(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {prefix + key: expanded(value)}
    return entries


def _filled(section: Any, entries: Mapping[str, Any], prefix: str = "") -> Any:
    """A section, and those in it, with the values of `entries`."""
    values = {}
    for field in fields(section):
        old, name = getattr(section, field.name), prefix + field.name
        values[field.name] = _filled(old, entries, f"{name}.") if dataclasses.is_dataclass(old) else entries[name]
    return type(section)(**values)


def check(chosen: Settings) -> Settings:
    """The same settings. Raises UsageError naming the first whose value is not allowed, alone or beside the others."""
    for name, field, value in declared(chosen):
        require(f"config key {name}", value, field.metadata["allowed"])
    settings_checks.together(chosen)
    return chosen


def table() -> str:
    """Markdown of all settings."""
    return settings_page.table(Settings(), declared(Settings()))


if __name__ == "__main__":
    command.run(lambda _: print(table(), end=""))
