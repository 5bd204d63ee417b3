"""Labels that take the place of suspected ones: the right ones, or what a model predicts, by way of `label --only`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from etils import epath

from mmgen_jax import label
from mmgen_jax.data.held_out import Scenes
from mmgen_jax.data.pipeline import Reader
from mmgen_jax.experts.labelling import Tree
from mmgen_jax.metrics import auditing
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling.draws import combined
from mmgen_jax.studies.wrong_labels import Labels, Pixels

Listed = Mapping[str, set[str]]  # modality -> keys, as `suspects.read` returns them


def absent(listed: Listed) -> Labels:
    """No labels in place of those that are listed."""
    return {(m, key): None for m, keys in listed.items() for key in keys}


def right(reader: Reader, listed: Listed) -> Pixels:
    """The labels that a split has of those that are listed."""
    numbers = reader.numbers()
    return {(m, key): reader.load([numbers[key]])[m][0] for m, keys in listed.items() for key in keys}


def predicted(runner: Runner, scenes: Scenes, facts: Facts, listed: Listed) -> Pixels:
    """What a model predicts of the labels that are listed from all others of their scenes: its draws, combined."""
    labels: Pixels = {}
    reader, numbers = scenes.reader, scenes.reader.numbers()
    for m, keys in listed.items():
        row, where = MODALITIES[m], sorted(numbers[key] for key in keys)
        for first in range(0, len(where), scenes.batch):
            part = np.array(where[first : first + scenes.batch])
            drawn = auditing.predict(runner, reader.load(part), part, m, facts).drawn
            value = combined({m: drawn.reshape(-1, *drawn.shape[2:])}, runner.draws, facts).values[m]
            pixels = to_pixels(row.array(value, facts), row.dtype)
            labels |= {(m, reader.key(i)): image for i, image in zip(part.tolist(), pixels, strict=True)}
    return labels


def labelled(folder: Path, reader: Reader, expert: Pixels, only: epath.PathLike) -> Pixels:
    """What `label --only` makes of a list of suspects, by an expert whose labels lie in files.

    Args:
      folder: where the files of the images, of the expert and of the labels that are made go.
      reader: the split, for the images.
      expert: the labels of the expert, at least all that are listed.
      only: the list.
    """
    numbers, files, made = reader.numbers(), Tree(folder / "expert"), Tree(folder / "made")
    for (m, key), pixels in expert.items():
        files.write(m, key, pixels)
        files.write("rgb", key, reader.load([numbers[key]])["rgb"][0])
    experts = {m: f"precomputed:{files.out / m}" for m, _ in expert}
    label.label(files.out / "rgb", made.out, experts, only=only)
    return {(m, key): MODALITIES[m].read(made.file(m, key)) for m, key in expert}
