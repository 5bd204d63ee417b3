"""Images -> labels by expert models, as trees of files that mirror the images.

python -m mmgen_jax.label --images=photos --out=labels --depth=depth-anything:PATH --normal=from-depth --mask=sam:PATH

The same command again does what is not done yet. What failed is listed in `failures.jsonl`. With --size, images are
cropped first and written to OUT/rgb, and the labels belong to those.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import flags

from mmgen_jax.data.trees import groups as trees
from mmgen_jax.experts import contact_sheet
from mmgen_jax.experts import registry as choosing
from mmgen_jax.experts.protocol import Expert
from mmgen_jax.modalities import files as images
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.show import pictures
from mmgen_jax.system import command, files
from mmgen_jax.system.console import duration, say
from mmgen_jax.system.errors import RunError, UsageError

_PROGRESS_SECONDS = (0.5, 10.0)  # between progress lines: on a terminal, in a log
FAILURES_FILE = "failures.jsonl"


@dataclass(frozen=True)
class Job:
    """One image: its key (relative path without suffix), its relative path, and its file."""

    key: str
    name: str
    path: str


@dataclass(frozen=True)
class Tree:
    """Where labels go: OUT/<modality>/<key>.png."""

    out: Path
    size: int = 0

    def file(self, modality: str, key: str) -> Path:
        return self.out / modality / f"{key}.png"

    def read(self, job: Job) -> np.ndarray:
        """The image as experts see it, uint8 [H, W, 3]; cropped ones are kept in the tree."""
        rgb = trees.read(job.path, "rgb")
        if not self.size:
            return rgb
        rgb = images.center_crop(rgb, self.size)
        if not self.file("rgb", job.key).exists():
            self.write("rgb", job.key, rgb)
        return rgb

    def write(self, modality: str, key: str, label: np.ndarray) -> None:
        path = self.file(modality, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.save_png(path, label[..., 0] if label.shape[-1] == 1 else label)


class Progress:
    """How far a modality is, now and then."""

    def __init__(self, modality: str, total: int):
        self._modality, self._total, self._done = modality, total, 0
        self._start = self._said = time.monotonic()

    def __call__(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if self._done < self._total and now - self._said < _PROGRESS_SECONDS[not sys.stdout.isatty()]:
            return
        self._said, rate = now, self._done / max(now - self._start, 1e-6)
        left = duration((self._total - self._done) / rate)
        say(f"{self._modality} {self._done}/{self._total}  {rate:.2f} images/s  left {left}")


def find_jobs(folder: str, worker: int, workers: int) -> list[Job]:
    """This worker's images, every `workers`-th one; sorted. Raises UsageError if there are none."""
    found = trees.find(folder)
    jobs = [Job(key, Path(path).relative_to(folder).as_posix(), path) for key, path in found.items()]
    return jobs[worker::workers]


def run_expert(modality: str, expert: Expert, jobs: Sequence[Job], tree: Tree, batch: int) -> list[dict[str, str]]:
    """Labels what has no label yet; returns what failed and why.

    Whatever an expert raises for one image concerns that image alone: it is recorded, and the others go on.
    """
    todo = [job for job in jobs if not tree.file(modality, job.key).exists()]
    if len(todo) < len(jobs):
        say(f"{modality}: {len(jobs) - len(todo)} of {len(jobs)} are there already")
    progress, failures = Progress(modality, len(todo)), []
    for first in range(0, len(todo), batch):
        part, shown = todo[first : first + batch], []
        for job in part:
            try:
                shown.append((job, tree.read(job)))
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
    except Exception as error:  # experts are other people's code and fail in their own ways
        if len(shown) == 1:
            failures.append(_failure(modality, shown[0][0], error))
            return []
        return [pair for one in shown for pair in _labels(expert, [one], modality, failures)]
    return [(job, label) for (job, _), label in zip(shown, labels, strict=True)]


def _failure(modality: str, job: Job, error: Exception) -> dict[str, str]:
    reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
    return {"modality": modality, "image": job.name, "reason": " ".join(reason.split())}


def label(
    folder: str,
    out: str,
    descriptions: Mapping[str, str],
    *,
    batch: int = 8,
    size: int = 0,
    worker: int = 0,
    workers: int = 1,
) -> None:
    """Runs the described experts, depth first, over all images below a folder.

    Raises UsageError before any work for what does not fit, and RunError at the end if images failed.
    """
    if not descriptions:
        raise UsageError(f"no expert is given; allowed: --{', --'.join(choosing.EXPERTS)}")
    if batch < 1:
        raise UsageError(f"batch is {batch}; allowed: at least 1")
    if size and not 8 <= size <= 4096:
        raise UsageError(f"size is {size}; allowed: 0 for images as they are, or 8 to 4096")
    if not 0 <= worker < workers:
        raise UsageError(f"worker is {worker} of {workers} workers; allowed: 0 to workers - 1")
    if Path(out).resolve().is_relative_to(Path(folder).resolve()):
        raise UsageError(f"out {out!r} is inside images {folder!r}, where its labels would be taken for images")
    files.check_place(out, "out", folder=True)
    jobs, tree = find_jobs(folder, worker, workers), Tree(Path(out), size)
    experts = {m: choosing.make(m, descriptions[m], str(Path(out) / "depth")) for m in MODALITIES if m in descriptions}
    say(f"{len(jobs)} images; {', '.join(f'{m} by {descriptions[m]}' for m in experts)}")
    failures = [f for m, expert in experts.items() for f in run_expert(m, expert, jobs, tree, batch)]
    name = FAILURES_FILE if workers == 1 else f"failures-{worker}-of-{workers}.jsonl"
    Path(out).mkdir(parents=True, exist_ok=True)
    files.write(Path(out) / name, "".join(json.dumps(failure) + "\n" for failure in failures).encode())
    if worker == 0:
        shown = contact_sheet.write(Path(out), {job.key: job.path for job in jobs}, size)
        say(f"look at {shown}" if shown else "no image has a label to show")
    labelled = {m: sum(tree.file(m, job.key).exists() for job in jobs) for m in experts}
    say(", ".join(f"{m} {count}/{len(jobs)}" for m, count in labelled.items()))
    if failures:
        first = failures[0]
        raise RunError(
            f"{len(failures)} labels failed, listed in {Path(out) / name}; "
            f"the first: {first['modality']} of {first['image']}: {first['reason']}"
        )


def _define_flags() -> None:
    flags.DEFINE_string("images", None, "Folder of images, with folders below it.", required=True)
    flags.DEFINE_string("out", None, "Folder of the labels.", required=True)
    for m, entries in choosing.EXPERTS.items():
        flags.DEFINE_string(m, None, f"Expert for {m}: {', '.join(entries)}.")
    flags.DEFINE_integer("batch", 8, "Images computed at once.")
    flags.DEFINE_integer("size", 0, "Crop images to this size first and keep them in OUT/rgb; 0 = as they are.")
    flags.DEFINE_integer("worker", 0, "Number of this worker.")
    flags.DEFINE_integer("workers", 1, "Workers that share the images.")


def main(argv: list[str]) -> None:
    v = flags.FLAGS
    descriptions = {m: v[m].value for m in choosing.EXPERTS if v[m].value}
    label(v.images, v.out, descriptions, batch=v.batch, size=v.size, worker=v.worker, workers=v.workers)


if __name__ == "__main__":
    _define_flags()
    command.run(main)
