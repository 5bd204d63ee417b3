"""Shows how small an error of a label an audit finds: a table of AUROC by size of the corruption.

python -m mmgen_jax.studies.audit --config=shapes_tiny --workdir=shapes-tiny --config.evaluate.n=256

Each label of held-out scenes is corrupted in turn, and its score compared with those of the labels as they are:

* patch: a square of N x N pixels of any label is replaced by one of another scene, from any place;
* tilt: all normals of an image are turned by N degrees about one random axis;
* offset: N percent of the range are added to or taken from all depths of an image.

A patch may happen to look as what it replaces; those that change nothing are not counted.
"""

from __future__ import annotations

from absl import flags

from mmgen_jax.system import command

if __name__ == "__main__":
    command.define_flags()
    flags.DEFINE_integer("draws", 3, "Predictions of each label.", lower_bound=1)
    command.parse()  # before the imports below, which take seconds

from collections.abc import Callable, Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from mmgen_jax import settings
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import held_out
from mmgen_jax.metrics import auditing
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.settings import Settings
from mmgen_jax.system.console import Progress, say

Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]  # values [N, ...], size -> others


def patch(values: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Replaces a square of `size` pixels in each of values [N, H, W, ...] by one of another image."""
    out, side = values.copy(), int(size)
    count, height, width = values.shape[:3]
    for i in range(count):
        other = (i + rng.integers(1, count)) % count
        (top, y), (left, x) = (rng.integers(0, length - side + 1, 2) for length in (height, width))
        out[i, top : top + side, left : left + side] = values[other, y : y + side, x : x + side]
    return out


def tilt(values: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Turns the normals [N, H, W, 3] of each image by `size` degrees about a random axis."""
    axes = rng.normal(size=(len(values), 3))
    axes *= np.deg2rad(size) / np.linalg.norm(axes, axis=1, keepdims=True)
    turned = [Rotation.from_rotvec(axis).apply(x.reshape(-1, 3)) for axis, x in zip(axes, values, strict=True)]
    return np.stack(turned).reshape(values.shape).astype(values.dtype)


def offset(values: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Adds `size` percent of the range to depths [N, H, W] in [0, 1], or takes them away, and clips."""
    signs = rng.choice([-1, 1], len(values)).reshape(-1, 1, 1)
    return np.clip(values + signs * size / 100, 0, 1).astype(values.dtype)


PATCHES: tuple[tuple[str, Corruption, tuple[float, ...], str], ...] = (("patch", patch, (2, 4, 8), "pixels"),)
CASES = {
    "depth": (*PATCHES, ("offset", offset, (2, 5, 10), "%")),
    "normal": (*PATCHES, ("tilt", tilt, (5, 10, 20), "degrees")),
    "mask": PATCHES,
}


def cases(modality: str) -> list[tuple[str, Corruption, float]]:
    """The corruptions of a modality: what each is called, and what it is and its size."""
    return [
        (f"{name} of {amount:g} {unit}", corruption, amount)
        for name, corruption, amounts, unit in CASES[modality]
        for amount in amounts
    ]


def study(chosen: Settings, workdir: str, draws: int) -> Iterator[tuple[str, str, float]]:
    """Yields modality, corruption and AUROC."""
    architecture, params = model_folders.load(workdir, chosen.sample.step)
    runner, facts = Runner.from_settings(auditing.drawing(chosen, draws), architecture, params), architecture.facts
    data, size, rng = chosen.data, architecture.image_size, np.random.default_rng(chosen.seed)
    batch = held_out.first(data.dir, data.test_split, architecture.modalities, size, chosen.evaluate.n, "evaluate.n")
    numbers = np.arange(len(batch["present"]))
    for m in auditing.labels(architecture.modalities):
        progress = Progress(f"predictions of {m}", len(numbers) * draws, "draws")
        found = auditing.predict(runner, batch, numbers, m, facts, progress)
        right = auditing.squares(found.maps)[0]
        typical = auditing.Typical.of(right)
        for name, corrupted, amount in cases(m):
            label = corrupted(found.label, amount, rng)
            changed = (label != found.label).reshape(len(label), -1).any(1)
            wrong = auditing.squares(auditing.disagreement(m, found.drawn, label, facts))[0][changed]
            yield m, name, auditing.auroc(typical.score(right), typical.score(wrong))


def main(argv: list[str]) -> None:
    del argv
    v = flags.FLAGS
    say("| label | corruption | AUROC |\n|---|---|---|")
    for modality, corruption, value in study(settings.parse(v.config), v.workdir, v.draws):
        say(f"| {modality} | {corruption} | {value:.3f} |")


if __name__ == "__main__":
    command.run(main)
