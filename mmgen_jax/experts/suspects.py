"""The list of labels that an audit suspects, as a file: `audit` writes it, and `label --only` labels what it names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from etils import epath

from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system import files, reading
from mmgen_jax.system.errors import UsageError


class Suspect(NamedTuple):
    """A label that disagrees with the rest of its scene.

    Attributes:
      modality: of the label.
      key: of the scene, as the data set and `label` name it.
      score: how much it disagrees, in typical deviations; see `metrics.auditing`.
      top, left, side: the square of pixels where it disagrees most.
    """

    modality: str
    key: str
    score: float
    top: int
    left: int
    side: int


def write(path: epath.PathLike, suspects: Sequence[Suspect]) -> None:
    """Writes a tab-separated file with a line of names, and a line for each label. Raises UsageError for odd keys."""
    for suspect in suspects:
        if "\t" in suspect.key or suspect.key.splitlines() != [suspect.key]:
            raise UsageError(f"key {suspect.key!r} has a tab or a line break, which a TSV file cannot hold")
    rows = [(s.modality, s.key, f"{s.score:.3f}", str(s.top), str(s.left), str(s.side)) for s in suspects]
    files.write(epath.Path(path), "".join("\t".join(row) + "\n" for row in [Suspect._fields, *rows]).encode())


def read(path: epath.PathLike) -> dict[str, set[str]]:
    """Modality -> keys of the labels in such a file; columns after the key are not read.

    Raises UsageError, naming the line, for a file that is missing or has something else in it.
    """
    if not files.path_of(path, "list").exists():
        raise UsageError(f"list {str(path)!r} does not exist; it must be a TSV file as audit writes it")
    head, *lines = reading.decoded(reading.contents(epath.Path(path)), path).splitlines() or [""]
    if head.split("\t")[:2] != list(Suspect._fields[:2]):
        raise UsageError(f"list {str(path)!r} begins with {head!r}; its first line must be {' '.join(Suspect._fields)}")
    found: dict[str, set[str]] = {}
    for number, line in enumerate(lines, 2):
        modality, _, rest = line.partition("\t")
        key = rest.partition("\t")[0]
        if modality not in NAMES or not key:
            raise UsageError(f"line {number} of {str(path)!r} is {line!r}; it must have a modality, a tab and a key")
        found.setdefault(modality, set()).add(key)
    return found
