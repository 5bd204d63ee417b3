"""What is given to the samples of a request of any number: files, or scenes that are read when they are needed."""

from __future__ import annotations

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


def from_files(paths: Mapping[str, str], n: int, architecture: Architecture) -> Given:
    """Files, one image for all n samples or one for each. Raises UsageError for one that cannot be given."""
    given = {m: MODALITIES[m].condition(path, architecture.image_size, architecture.facts) for m, path in paths.items()}
    for m, value in given.items():
        if len(value) not in (1, n):
            raise UsageError(f"given {m} ({paths[m]}) has {len(value)} images; allowed: 1, or n = {n}")
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
