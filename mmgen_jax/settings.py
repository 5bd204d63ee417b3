"""What every config value must be; one table, checked once at the entry point."""

from __future__ import annotations

from collections.abc import Callable

from ml_collections import ConfigDict

from mmgen_jax.diffusion.conditioning import TIME_SAMPLERS
from mmgen_jax.diffusion.flow import PATHS
from mmgen_jax.frozen.autoencoders import registry as autoencoders
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.models import attention
from mmgen_jax.models.mmdit import DTYPES, REMATS
from mmgen_jax.parallel.mesh import AXES
from mmgen_jax.sampling import SOLVERS
from mmgen_jax.system.errors import UsageError

Rule = tuple[Callable[[object], bool], str]


def _number(low: float, high: float = float("inf")) -> Rule:
    limit = f"at least {low:g}" if high == float("inf") else f"{low:g} to {high:g}"
    return (lambda v: isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high, f"a number {limit}")


def _integer(low: int) -> Rule:
    return (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v < 2**31,
        f"an integer of at least {low} and below 2^31",
    )


def _one_of(*allowed: str) -> Rule:
    return lambda v: v in allowed, "one of " + ", ".join(allowed)


def _tuple(item: Rule, length: int | None = None) -> Rule:
    count = "any number of" if length is None else str(length)
    return (
        lambda v: isinstance(v, tuple) and (length is None or len(v) == length) and all(map(item[0], v)),
        f"a tuple of {count} entries, each {item[1]}",
    )


def _is_row(row: object) -> bool:
    if not isinstance(row, tuple | list) or len(row) != len(ROW):
        return False
    return all(allows(value) for (allows, _), value in zip(ROW, row, strict=True))


TEXT: Rule = (lambda v: isinstance(v, str), "a text")
SWITCH: Rule = (lambda v: isinstance(v, bool), "True or False")
MODALITIES: Rule = (
    lambda v: isinstance(v, tuple) and len(v) > 0 and list(v) == [m for m in NAMES if m in v],
    f"a tuple of some of {', '.join(NAMES)}, in this order",
)
POSITIVE: Rule = (lambda v: _number(0)[0](v) and v > 0, "a number above 0")
BELOW_ONE: Rule = (lambda v: _number(0, 1)[0](v) and v < 1, "a number of at least 0 and below 1")
SIZE_OR_REST: Rule = (lambda v: v == -1 or _integer(1)[0](v), "an integer of at least 1, or -1 for what is left")
ROW = (_number(0, 1), TEXT, _number(0, 1), TEXT)
MIX: Rule = (
    lambda v: isinstance(v, tuple) and len(v) > 0 and all(map(_is_row, v)),
    "a tuple of rows (share, given, given_time, supervised) of number, text, number, text; numbers 0 to 1",
)

RULES: dict[str, Rule] = {
    "seed": _integer(0),
    "distributed.coordinator": TEXT,
    "distributed.processes": _integer(1),
    "distributed.process": _integer(0),
    "data.dir": TEXT,
    "data.latents": TEXT,
    "data.image_size": _integer(1),
    "data.modalities": MODALITIES,
    "data.train_split": TEXT,
    "data.test_split": TEXT,
    "data.flip": SWITCH,
    "data.workers": _integer(0),
    "data.max_damaged": _number(0, 1),
    "autoencoder.name": _one_of(*autoencoders.NAMES),
    "autoencoder.path": TEXT,
    "autoencoder.dtype": _one_of(*DTYPES),
    "autoencoder.chunk": _integer(1),
    "autoencoder.factor": _integer(1),
    "autoencoder.components": _tuple(_integer(1)),
    "autoencoder.whitening": _number(0, 1),
    "features.source": _one_of("none", "stored", "online"),
    "features.path": TEXT,
    "features.dtype": _one_of(*DTYPES),
    "encode.dtype": _one_of("float16", "bfloat16"),
    "encode.batch": _integer(1),
    "encode.features": SWITCH,
    "encode.rgb": SWITCH,
    "encode.mirror": SWITCH,
    "encode.shard": _integer(1),
    "model.depth": _integer(1),
    "model.width": _integer(1),
    "model.heads": _integer(1),
    "model.encoder_depth": _integer(0),
    "model.patch": _integer(1),
    "model.mlp_ratio": _number(0.25),
    "model.projector_width": _integer(1),
    "model.feature_width": _integer(0),
    "model.dtype": _one_of(*DTYPES),
    "model.remat": _one_of(*REMATS),
    "model.attention": _one_of(*attention.NAMES),
    "model.unroll": _integer(1),
    "model.precondition": SWITCH,
    **{f"mesh.{axis}": SIZE_OR_REST for axis in AXES},
    "objective.path": _one_of(*PATHS),
    "objective.time": _one_of(*TIME_SAMPLERS),
    "objective.mix": MIX,
    "objective.loss_weights": _tuple(_number(0)),
    "objective.alignment_weight": _number(0),
    "objective.label_dropout": _number(0, 1),
    "optim.learning_rate": _number(0),
    "optim.warmup_steps": _integer(0),
    "optim.decay_steps": _integer(0),
    "optim.b1": BELOW_ONE,
    "optim.b2": BELOW_ONE,
    "optim.eps": POSITIVE,
    "optim.weight_decay": _number(0),
    "optim.moment_dtype": _one_of(*DTYPES),
    "optim.clip_norm": POSITIVE,
    "optim.ema_decay": _number(0, 1),
    "optim.ema_ramp": _number(1),
    "train.batch": _integer(1),
    "train.accumulate": _integer(1),
    "train.steps": _integer(1),
    "train.log_every": _integer(1),
    "train.save_every": _integer(1),
    "train.keep": _integer(1),
    "train.keep_best": _integer(0),
    "train.sample_every": _integer(0),
    "train.max_skipped": _integer(0),
    "train.spike_factor": _number(1),
    "train.init_from": TEXT,
    "sample.task": TEXT,
    "sample.class_id": TEXT,
    "sample.n": _integer(1),
    "sample.batch": _integer(1),
    "sample.solver": _one_of(*SOLVERS),
    "sample.steps": _integer(1),
    "sample.guidance": _number(0),
    "sample.guidance_interval": _tuple(_number(0, 1), 2),
    "sample.given_time": _number(0, 1),
    "sample.seed": _integer(0),
    "sample.checkpoint": _integer(-1),
    "sample.index": _integer(0),
    **{f"sample.images.{m}": TEXT for m in NAMES},
    "evaluate.n": _integer(1),
    "evaluate.samples": _integer(0),
    "evaluate.batch": _integer(1),
    "evaluate.draws": _integer(1),
    "evaluate.steps": _integer(1),
    "evaluate.solver": _one_of(*SOLVERS),
}


def _flat(config: ConfigDict, prefix: str = "") -> dict[str, object]:
    entries: dict[str, object] = {}
    for key in config:
        value = config[key]
        entries |= _flat(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {prefix + key: value}
    return entries


def validate(config: ConfigDict) -> None:
    """Raises UsageError naming the first key that is unknown, missing or has a value that is not allowed."""
    entries = _flat(config)
    for key in entries:
        if key not in RULES:
            raise UsageError(f"unknown config key {key}")
    for key, (allows, allowed) in RULES.items():
        if key not in entries:
            raise UsageError(f"config key {key} is missing; it must be {allowed}")
        if not allows(entries[key]):
            raise UsageError(f"config key {key} is {entries[key]!r}; it must be {allowed}")
    for key in ("objective.loss_weights", "autoencoder.components"):
        if len(entries[key]) != len(config.data.modalities):
            raise UsageError(
                f"config key {key} has {len(entries[key])} entries; data.modalities has {len(config.data.modalities)}"
            )
    size, factor, patch = config.data.image_size, config.autoencoder.factor, config.model.patch
    if size % (factor * patch):
        raise UsageError(
            f"config key data.image_size is {size}; it must be a positive multiple of "
            f"autoencoder.factor x model.patch = {factor} x {patch} = {factor * patch}"
        )
    _check_features(config)
    if config.objective.path != "linear":
        # Both rest on the variance or the score of the linear path.
        for key, used in (
            ("model.precondition", config.model.precondition),
            ("sample.solver", SOLVERS[config.sample.solver].needs_score),
            ("evaluate.solver", SOLVERS[config.evaluate.solver].needs_score),
        ):
            if used:
                raise UsageError(f"config key {key} is {entries[key]!r}, which needs objective.path = linear")
    if config.train.batch % config.train.accumulate:
        parts, batch = config.train.accumulate, config.train.batch
        raise UsageError(f"config key train.accumulate is {parts}; it must divide train.batch = {batch}")


def _check_features(config: ConfigDict) -> None:
    """Settings of representation alignment that only make sense together."""
    source, width = config.features.source, config.model.feature_width
    if source != "none" and not width:
        raise UsageError(f"config key features.source is {source!r}; it needs model.feature_width, which is 0")
    if source == "stored" and not config.data.latents:
        raise UsageError('config key features.source is "stored"; it needs data.latents, which is empty')
    if source == "online" and not config.features.path:
        raise UsageError('config key features.source is "online"; it needs features.path, which is empty')
    if source != "none" and "rgb" not in config.data.modalities:
        raise UsageError(f"config key features.source is {source!r}; it needs rgb in data.modalities")
    if config.data.latents and config.data.flip:
        raise UsageError("config key data.flip is True; latents cannot be mirrored: set it False, encode.mirror True")
