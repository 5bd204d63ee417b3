"""Runs experts over the images of a folder, and finds out what is still to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from etils import epath

from mmgen_jax.data.trees import disk, groups
from mmgen_jax.experts.protocol import Expert
from mmgen_jax.modalities.pixels import center_crop
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import pictures
from mmgen_jax.system import files
from mmgen_jax.system.console import Progress, say
from mmgen_jax.system.errors import RunError, UsageError
from mmgen_jax.system.shares import Share


@dataclass(frozen=True)
class Job:
    """One image: its key (relative path without suffix) and its relative path, both composed, and its file."""

    key: str
    name: str
    path: str


@dataclass(frozen=True)
class Tree:
    """The tree of files that labels are written to: OUT/<modality>/<key>.png."""

    out: Path
    size: int = 0

    def file(self, modality: str, key: str) -> Path:
        return self.out / modality / f"{key}.png"

    def has(self, modality: str, key: str) -> bool:
        """Whether there is a label. Raises UsageError for a folder, FIFO or the like in its place."""
        path = self.file(modality, key)
        files.check_files(path.parent, [path.name], "label")
        return path.exists()

    def read(self, job: Job, whole: bool) -> np.ndarray:
        """The image as experts see it, uint8 [H, W, 3], or the `whole` image; cropped ones are kept in the tree."""
        rgb = MODALITIES["rgb"].read(job.path)
        if not self.size:
            return rgb
        if not self.has("rgb", job.key):
            self.write("rgb", job.key, rgb)
        return rgb if whole else center_crop(rgb, self.size)

    def write(self, modality: str, key: str, label: np.ndarray) -> None:
        """Writes a label, or an image, cropped if images are and it is not yet."""
        path = self.file(modality, key)
        if self.size:
            label = MODALITIES[modality].square(label, self.size)
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.save_png(path, label[..., 0] if label.shape[-1] == 1 else label)


def find_jobs(folder: epath.PathLike, share: Share) -> Sequence[Job]:
    """The images of a share, sorted. Raises UsageError if there are none in the folder."""
    found = groups.find(folder)
    jobs = [Job(key, disk.composed(Path(path).relative_to(folder).as_posix()), path) for key, path in found.items()]
    return share.dealt(jobs)


def run_expert(
    modality: str, expert: Expert, jobs: Sequence[Job], tree: Tree, batch: int, whole: bool = False
) -> list[dict[str, str]]:
    """Labels what has no label yet; returns what failed and why.

    An error that an expert raises for one image is recorded, and the other images are labelled. With `whole` the expert
    sees images before they are cropped.
    """
    todo = [job for job in jobs if not tree.has(modality, job.key)]
    if len(todo) < len(jobs):
        say(f"{modality}: {len(jobs) - len(todo)} of {len(jobs)} are there already")
    progress, failures = Progress(modality, len(todo), "images"), []
    for first in range(0, len(todo), batch):
        part, shown = todo[first : first + batch], []
        for job in part:
            try:
                shown.append((job, tree.read(job, whole)))
            except UsageError as error:
                failures.append(_failure(modality, job, error))
        for job, label in _labels(expert, shown, modality, failures):
            tree.write(modality, job.key, label)
        progress(len(part))
    return failures


def _labels(
    expert: Expert, shown: Sequence[tuple[Job, np.ndarray]], modality: str, failures: list[dict[str, str]]
) -> list[tuple[Job, np.ndarray]]:
    """Labels of a batch; image by image where the batch as a whole fails."""
    if not shown:
        return []
    try:
        labels = expert.label([rgb for _, rgb in shown], [job.name for job, _ in shown])
    except Exception as error:  # experts are code of other projects and may raise anything
        if len(shown) == 1:
            failures.append(_failure(modality, shown[0][0], error))
            return []
        return [pair for one in shown for pair in _labels(expert, [one], modality, failures)]
    return [(job, label) for (job, _), label in zip(shown, labels, strict=True)]


def _failure(modality: str, job: Job, error: Exception) -> dict[str, str]:
    reason = str(error) if isinstance(error, UsageError | RunError) else f"{type(error).__name__}: {error}"
    return {"modality": modality, "image": job.name, "reason": " ".join(reason.split())}
