"""What is given to the samples of a request of any number: files, or scenes that are read when they are needed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath

from mmgen_jax.data import fingerprint, held_out
from mmgen_jax.data.latents.plan import digest
from mmgen_jax.data.pipeline import open_split
from mmgen_jax.diffusion.conditioning import subset
from mmgen_jax.modalities import kept
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling import raw
from mmgen_jax.system.errors import UsageError, choice, shown

Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class Given:
    """What is given to each sample.

    Attributes:
      values: numbers of samples -> modality -> values [1 or n, ...] of what is given.
      truth: numbers of samples -> all values of the scenes that are given; none where files are.
      source: name -> value, as JSON has it, that tells what it was read from.
      known: modality -> pixels bool [1 or n, H, W] that are known of it, of those that are given in part.
      start: values [1 or n, ...] from which modalities that are wanted begin.
      inverted: values [1 or n, ...] from whose own noise they begin.
      ends: values [1 or n, ...] of the same, to whose own noise they go from there, sample by sample.
    """

    values: Callable[[np.ndarray], Values]
    truth: Callable[[np.ndarray], Values]
    source: dict[str, object]
    known: Values = dataclasses.field(default_factory=dict)
    start: Values = dataclasses.field(default_factory=dict)
    inverted: Values = dataclasses.field(default_factory=dict)
    ends: Values = dataclasses.field(default_factory=dict)

    def keeping(self, known: Values) -> Given:
        """The same with only some pixels known."""
        source = self.source | {f"the pixels of {m} that are kept": digest(x) for m, x in known.items()}
        return dataclasses.replace(self, source=source, known=known)

    def beginning(self, start: Values, inverted: Values, ends: Values) -> Given:
        """The same with a start of some modalities, and with others that begin from noise of their own, or between."""
        source = self.source | {f"the start of {m}": digest(x) for m, x in start.items()}
        source |= {f"the {m} that is inverted": digest(x) for m, x in inverted.items()}
        source |= {f"the {m} that is inverted at the end": digest(x) for m, x in ends.items()}
        return dataclasses.replace(self, source=source, start=start, inverted=inverted, ends=ends)


def set_paths(section: object) -> dict[str, str]:
    """Modality -> path, of the files that a section of the settings names."""
    return {m: path for m, path in vars(section).items() if path}


def named(key: str, text: str, modalities: Sequence[str], also: str = "") -> tuple[str, ...]:
    """The modalities that a setting such as "rgb+mask" names, in the model's order.

    Raises UsageError for unknown ones, which says that some are allowed, and `also` something else.
    """
    try:
        chosen = subset(text, modalities)
    except UsageError as error:
        allowed = f"{also}some of {', '.join(modalities)} joined by +"
        raise UsageError(f"config key {key} is {text!r}; allowed: {allowed}") from error
    return tuple(m for m, yes in zip(modalities, chosen, strict=True) if yes)


def given_values(
    given: Mapping[str, object], n: int, architecture: Architecture, whole: float = 0, role: str = "given"
) -> Values:
    """Values [1 or n, ...] of files or arrays, one image for all n samples or one for each, in the model's order.

    They are central squares of the model's size, or with `whole` as large as they are given. `role` is what messages
    call them.

    Raises UsageError for what cannot be given, and for another number of images.
    """
    found, a = {}, architecture
    for m in a.modalities:
        if m in given:
            found[m] = MODALITIES[m].condition(given[m], None if whole else a.image_size, a.facts, role)
            if len(found[m]) not in (1, n):
                file = f" ({given[m]})" if isinstance(given[m], str | os.PathLike) else ""
                raise UsageError(f"{role} {m}{file} has {len(found[m])} images; allowed: 1, or n = {n}")
    return found


def rows_of(values: Values, numbers: np.ndarray) -> Values:
    """Values [1 or n, ...] of the samples `numbers`; one for all samples stays one."""
    return {m: x if len(x) == 1 else x[numbers] for m, x in values.items()}


def known_pixels(keep: Mapping[str, object], given: Sequence[str], n: int, architecture: Architecture) -> Values:
    """Pixels bool [1 or n, size, size] that are known of modalities that are given in part, in the model's order.

    Raises UsageError for masks that cannot be read, of modalities that are not given, or of another number of images.
    """
    found, a = {}, architecture
    for m, value in keep.items():
        choice("modality of keep", m, a.modalities)
        if m not in given:
            raise UsageError(
                f"keep of {m} is {shown(value)}, but {m} is not given; given: {' + '.join(given) or 'nothing'}"
            )
    for m in (m for m in a.modalities if m in keep):
        pixels = kept.read(f"keep of {m}", keep[m], a.image_size)
        if len(pixels) not in (1, n):
            raise UsageError(f"keep of {m} has {len(pixels)} images; allowed: 1, or n = {n}")
        found[m] = pixels
    return found


def values_of(role: str, files: Mapping[str, object], n: int, architecture: Architecture) -> Values:
    """What `given_values` returns, of what has another role; raises UsageError for unknown modalities too."""
    for m in files:
        choice(f"modality of {role}", m, architecture.modalities)
    return given_values(files, n, architecture, role=role)


def noise_values(noise: Mapping[str, object] | None, n: int, architecture: Architecture) -> Values:
    """Latents [1 or n, h, w, C] in place of noise, in the model's order. Raises UsageError for what cannot be that."""
    if noise is None:
        return {}
    found = architecture.ordered(raw.latents("noise", noise, architecture))
    for m, z in found.items():
        if len(z) not in (1, n):
            raise UsageError(f"noise of {m} has {len(z)} samples; allowed: 1, or n = {n}")
        if not np.isfinite(z).all():
            raise UsageError(f"noise of {m} has NaN or infinity; allowed: finite numbers")
    return {m: np.asarray(z, np.float32) for m, z in found.items()}


def from_values(given: Values) -> Given:
    """Values as `given_values` returns them."""
    source: dict[str, object] = {f"the {m} that is given": digest(value) for m, value in given.items()}
    return Given(lambda i: rows_of(given, i), lambda _: {}, source)


def from_scenes(
    directory: epath.PathLike, split: str, first: int, n: int, names: Sequence[str], architecture: Architecture
) -> Given:
    """Modalities `names` of scenes of a split, of which sample i is given number first + i.

    Raises UsageError where there are no n scenes; what it returns raises it for a scene that lacks a modality.
    """

    reader = open_split(directory, split, architecture.modalities, architecture.image_size)
    if first + n > len(reader):
        raise UsageError(
            f"config key sample.index is {first} and sample.n is {n}, but split {split!r} has {len(reader)} scenes"
        )

    def truth(numbers: np.ndarray) -> Values:
        found = held_out.values(reader, first + numbers, architecture.facts)
        for m in names:
            if m not in found:
                raise UsageError(f"a scene of {split!r} from {first + numbers[0]} to {first + numbers[-1]} has no {m}")
        return found

    truth(np.array([0, n - 1]))  # before weights are read
    source = {"the scenes": fingerprint.of(reader.source), "the first scene": first}
    return Given(lambda i: {m: x for m, x in truth(i).items() if m in names}, truth, source)


def pasted(made: np.ndarray, given: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What is made [n, H, W, ...] with what is known, bool [n, H, W], as it was given."""
    return np.where(known[..., None] if made.ndim > known.ndim else known, given, made)
