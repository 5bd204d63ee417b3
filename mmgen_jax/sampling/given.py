"""What is given to the samples of a request of any number: files, or scenes that are read when they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from mmgen_jax.data import fingerprint, held_out
from mmgen_jax.data.latents.plan import digest
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.system.errors import UsageError

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Given:
    """What is given to each sample.

    Attributes:
      values: numbers of samples -> modality -> values [1 or n, ...] of what is given.
      truth: numbers of samples -> all values of the scenes that are given; none where files are.
      source: name -> value, as JSON has it, that tells what it was read from.
    """

    values: Callable[[np.ndarray], Values]
    truth: Callable[[np.ndarray], Values]
    source: dict[str, object]


def given_values(given: Mapping[str, object], n: int, architecture: Architecture, whole: float = 0) -> Values:
    """Values [1 or n, ...] of files or arrays, one image for all n samples or one for each, in the model's order.

    They are central squares of the model's size, or with `whole` as large as they are given.

    Raises UsageError for what cannot be given, and for another number of images.
    """
    found, a = {}, architecture
    for m in a.modalities:
        if m in given:
            found[m] = MODALITIES[m].condition(given[m], None if whole else a.image_size, a.facts)
            if len(found[m]) not in (1, n):
                file = f" ({given[m]})" if isinstance(given[m], str | os.PathLike) else ""
                raise UsageError(f"given {m}{file} has {len(found[m])} images; allowed: 1, or n = {n}")
    return found


def from_files(paths: Mapping[str, str], n: int, architecture: Architecture, whole: float = 0) -> Given:
    """Files, see `given_values`, which raises UsageError for one that cannot be given."""
    given = given_values(paths, n, architecture, whole)
    source: dict[str, object] = {f"the {m} that is given": digest(value) for m, value in given.items()}
    return Given(lambda i: {m: x if len(x) == 1 else x[i] for m, x in given.items()}, lambda _: {}, source)


def from_scenes(
    directory: epath.PathLike, split: str, first: int, n: int, names: Sequence[str], architecture: Architecture
) -> Given:
    """Modalities `names` of scenes of a split, of which sample i is given number first + i.

    Raises UsageError where there are no n scenes; what it returns raises it for a scene that lacks a modality.
    """

    reader = open_split(directory, split, architecture.modalities, architecture.image_size)

    def truth(numbers: np.ndarray) -> Values:
        found = held_out.values(reader, first + numbers, architecture.facts)
        for m in names:
            if m not in found:
                raise UsageError(f"a scene of {split!r} from {first + numbers[0]} to {first + numbers[-1]} has no {m}")
        return found

    truth(np.array([0, n - 1]))  # before weights are read
    source = {"the scenes": fingerprint.of(reader.source), "the first scene": first}
    return Given(lambda i: {m: x for m, x in truth(i).items() if m in names}, truth, source)
