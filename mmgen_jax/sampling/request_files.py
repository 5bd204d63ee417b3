"""The files of a request: what is given, kept, changed or known, as the settings name them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from mmgen_jax.modalities.modality import Scalar
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling.options import by_modality
from mmgen_jax.system.rules import TEXT, each, number, setting

GivenFiles = by_modality("GivenFiles", "", TEXT, "image or NPY file of {0}")
GivenFiles.__doc__ = "Files that are given. Without files, what the task gives comes from the data set."
Images = by_modality("Images", "", TEXT, "the same as given.{0}, its earlier name")
Images.__doc__ = "Earlier names of the files that are given."
KeepFiles = by_modality(
    "KeepFiles", "", TEXT, "grey image or NPY file, white where the given {0} is kept; the rest is made"
)
KeepFiles.__doc__ = "Which part of what is given is kept, for inpainting; empty = all of it."
StartFiles = by_modality("StartFiles", "", TEXT, "image or NPY file at which {0} begins, under the noise of start_time")
InvertFiles = by_modality("InvertFiles", "", TEXT, "image or NPY file of {0} whose own noise the sample begins at")
InvertFiles.__doc__ = (
    "Files that the flow leads back to their noise, from which samples are made under other conditions."
)
InvertToFiles = by_modality(
    "InvertToFiles", "", TEXT, "the same of another {0}, to whose noise samples go from that of invert.{0}"
)
InvertToFiles.__doc__ = "Files at the other end of a way of as many steps as there are samples; the first is `invert`."
StartFiles.__doc__ = "Files that are changed: what is made begins at them, not at noise."
PointFiles = by_modality(
    "PointFiles", "", TEXT, "text file of known pixels of {0}: rows of x, y and the value, see guides"
)
PointFiles.__doc__ = "Values that are known in some pixels, which guide what is made."
UnscaledFiles = by_modality(
    "UnscaledFiles",
    "",
    TEXT,
    "the same of values whose scale and shift are not known, of depth such as 1 / metres",
    [m for m, kind in MODALITIES.items() if isinstance(kind, Scalar)],
)
UnscaledFiles.__doc__ = "Values that are known in some pixels up to a scale and a shift; they guide as points do."
Models = by_modality("Models", "", TEXT, "workdir or model that tells what the given {0} says; empty = the first one")
Models.__doc__ = "Other models that tell conditions, in a composition (`sample.compose`)."


@dataclass(frozen=True)
class RegionColour:
    """The mean colour of a region, which guides the rgb that is made."""

    mask: str = setting("", TEXT, "grey image or NPY file, white in the region; empty = none")
    colour: tuple[float, float, float] = setting(
        (0.5, 0.5, 0.5), each(number(0, 1), 3), "red, green and blue from 0 to 1"
    )


@dataclass(frozen=True)
class RequestFiles:
    """Files by modality, and the colour of a region; empty = none."""

    given: GivenFiles = dataclasses.field(default_factory=GivenFiles)  # type: ignore[valid-type]
    keep: KeepFiles = dataclasses.field(default_factory=KeepFiles)  # type: ignore[valid-type]
    start: StartFiles = dataclasses.field(default_factory=StartFiles)  # type: ignore[valid-type]
    invert: InvertFiles = dataclasses.field(default_factory=InvertFiles)  # type: ignore[valid-type]
    invert_to: InvertToFiles = dataclasses.field(default_factory=InvertToFiles)  # type: ignore[valid-type]
    models: Models = dataclasses.field(default_factory=Models)  # type: ignore[valid-type]
    images: Images = dataclasses.field(default_factory=Images)  # type: ignore[valid-type]
    points: PointFiles = dataclasses.field(default_factory=PointFiles)  # type: ignore[valid-type]
    unscaled: UnscaledFiles = dataclasses.field(default_factory=UnscaledFiles)  # type: ignore[valid-type]
    region: RegionColour = dataclasses.field(default_factory=RegionColour)
