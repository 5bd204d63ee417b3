"""Settings that are allowed only beside certain others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.sampling import SOLVERS
from mmgen_jax.system.errors import UsageError

if TYPE_CHECKING:
    from mmgen_jax.settings import Settings


def together(chosen: Settings) -> None:
    """Raises UsageError naming the first setting whose value is not allowed beside the others."""
    for check in (_modalities, _sizes, _features, _path, _solvers, _repeats, _scores):
        check(chosen)


def _modalities(chosen: Settings) -> None:
    """Lists with an entry for each modality have as many."""
    modalities, kind = chosen.data.modalities, registry.KINDS[chosen.autoencoder.name]
    weights = chosen.objective.loss_weights or modalities  # each has its own
    components = chosen.autoencoder.components if "components" in kind.depends_on else modalities
    for name, found in (("objective.loss_weights", weights), ("autoencoder.components", components)):
        if len(found) != len(modalities):
            raise UsageError(f"config key {name} has {len(found)} entries; data.modalities has {len(modalities)}")
    if not any(weight != 0 for weight in weights):
        raise UsageError(f"config key objective.loss_weights is {weights}; at least one must be above 0")


def _sizes(chosen: Settings) -> None:
    """What is cut into parts can be: images into tokens, a batch into passes."""
    size, factor, patch = chosen.data.image_size, chosen.autoencoder.factor, chosen.model.patch
    if size % (factor * patch):
        allowed = f"a positive multiple of autoencoder.factor x model.patch = {factor} x {patch} = {factor * patch}"
        raise UsageError(f"config key data.image_size is {size}; it must be {allowed}")
    if (batch := chosen.train.batch) % (parts := chosen.train.accumulate):
        raise UsageError(f"config key train.accumulate is {parts}; it must divide train.batch = {batch}")


def _features(chosen: Settings) -> None:
    """Settings of representation alignment that only make sense together."""
    source, latents = chosen.features.source, chosen.data.latents
    aligned, lacks_rgb = source != "none", "rgb" not in chosen.data.modalities
    needed = f'features.source is "{source}"; it needs'
    mirrored = "data.flip is True; latents cannot be mirrored: set it False, encode.mirror True"
    for wrong, words in (
        (aligned and not chosen.model.feature_width, f"{needed} model.feature_width, which is 0"),
        (source == "stored" and not latents, f"{needed} data.latents, which is empty"),
        (source == "online" and not chosen.features.path, f"{needed} features.path, which is empty"),
        (aligned and lacks_rgb, f"{needed} rgb in data.modalities"),
        (latents and chosen.data.flip, mirrored),
    ):
        if wrong:
            raise UsageError(f"config key {words}")


def _path(chosen: Settings) -> None:
    """What rests on the variance or the score of the linear path is refused on another."""
    if chosen.objective.path == "linear":
        return
    for name, value, used in (
        ("model.precondition", chosen.model.precondition, chosen.model.precondition),
        ("sample.solver", chosen.sample.solver, SOLVERS[chosen.sample.solver].needs_linear_path),
        ("evaluate.solver", chosen.evaluate.solver, SOLVERS[chosen.evaluate.solver].needs_linear_path),
    ):
        if used:
            raise UsageError(f"config key {name} is {value!r}, which needs objective.path = linear")


def _solvers(chosen: Settings) -> None:
    """Average velocities come from networks that see two times."""
    for name, solver in (("sample", chosen.sample.solver), ("evaluate", chosen.evaluate.solver)):
        if SOLVERS[solver].averages and not chosen.model.decoupled:
            raise UsageError(f"config key {name}.solver is {solver!r}, which needs model.decoupled above 0")


def _repeats(chosen: Settings) -> None:
    """What is scored several times differs each time."""
    e = chosen.evaluate
    for name, count in (("draws", e.draws), ("seeds", 1 if e.samples else e.seeds)):
        if count > 1 and e.temperature == 0 and not SOLVERS[e.solver].stochastic:
            raise UsageError(f"config key evaluate.{name} is {count}, which needs evaluate.temperature above 0, as 1")


def _scores(chosen: Settings) -> None:
    """Scores in training are of tiles, also where latents are read."""
    if (every := chosen.train.evaluate_every) and not chosen.data.dir:
        raise UsageError(f"config key train.evaluate_every is {every}, which needs data.dir with held-out tiles")
