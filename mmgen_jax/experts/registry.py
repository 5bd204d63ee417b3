"""Experts by their description on the command line: "name", "name:path" or "name:path,option=value"."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mmgen_jax.experts.protocol import Expert
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError, choice


@dataclass(frozen=True)
class Entry:
    """How an expert is made.

    Attributes:
      make: (path, options) -> expert.
      path: what its path must be, for messages; "" where it takes none.
      options: name -> default; those whose default is a text are texts, the others numbers.
      whole: whether it sees images before they are cropped, and its labels are cropped like them.
    """

    make: Callable[[str, dict[str, Any]], Expert]
    path: str
    options: dict[str, Any] = field(default_factory=dict)
    whole: bool = False


@dataclass(frozen=True)
class Chosen:
    """An expert as it was described: its name, its path or "" where it takes none, and all its options."""

    name: str
    path: str
    options: dict[str, Any]
    entry: Entry

    def make(self, depth_folder: str) -> Expert:
        """Makes it; `depth_folder` is where depth labels lie, for those that start from them. Raises UsageError."""
        return self.entry.make(self.path or depth_folder, self.options)


# Each imports its libraries when it is chosen.
def _depth_anything(path: str, options: dict[str, Any]) -> Expert:
    from mmgen_jax.experts.depth_anything import DepthAnything

    return DepthAnything(path, options["kind"])


def _marigold(path: str, options: dict[str, Any]) -> Expert:
    from mmgen_jax.experts.marigold import MarigoldNormals

    return MarigoldNormals(path, int(options["steps"]))


def _stable_normal(path: str, _options: dict[str, Any]) -> Expert:
    from mmgen_jax.experts.stable_normal import StableNormal

    return StableNormal(path)


def _sam(path: str, options: dict[str, Any]) -> Expert:
    from mmgen_jax.experts.sam import Sam

    return Sam(path, int(options["points"]), options["iou"], options["stability"], options["overlap"])


def _precomputed(modality: str) -> Callable[[str, dict[str, Any]], Expert]:
    def make(path: str, options: dict[str, Any]) -> Expert:
        from mmgen_jax.experts.precomputed import Precomputed

        return Precomputed(modality, path, _invalid(options))

    return make


def _from_depth(path: str, options: dict[str, Any]) -> Expert:
    from mmgen_jax.experts.from_depth import FromDepth
    from mmgen_jax.modalities.geometry import Camera

    invalid = _invalid(options)
    return FromDepth(path, Camera(options["fov"], options["near"], options["far"]), invalid)


def _invalid(options: dict[str, Any]) -> float | None:
    """The number of pixels of depth that have no value, or None."""
    invalid = options.get("invalid", math.nan)
    return None if math.isnan(invalid) else invalid


_INVALID = {"invalid": math.nan}  # no number of depth is invalid
_MODEL = "a folder in its library's format, or a hub id"
_MODELS: dict[str, dict[str, Entry]] = {
    "depth": {"depth-anything": Entry(_depth_anything, "a folder, a file of weights, or a hub id", {"kind": ""})},
    "normal": {
        "stable-normal": Entry(_stable_normal, "a copy of its repository"),
        "marigold": Entry(_marigold, _MODEL, {"steps": 4}),
        "from-depth": Entry(_from_depth, "", {"fov": 60.0, "near": 1.0, "far": 10.0} | _INVALID),
    },
    "mask": {"sam": Entry(_sam, _MODEL, {"points": 32, "iou": 0.88, "stability": 0.95, "overlap": 0.7})},
}
# Experts of every modality but rgb, which they look at. Labels that were made elsewhere are always allowed.
EXPERTS: dict[str, dict[str, Entry]] = {
    m: _MODELS.get(m, {})
    | {
        "precomputed": Entry(
            _precomputed(m), "a folder like that of the images", _INVALID if m == "depth" else {}, whole=True
        )
    }
    for m in NAMES
    if m != "rgb"
}


def parse(modality: str, description: str) -> Chosen:
    """What a description says.

    Raises UsageError for an unknown name or option, and a path that is missing or not wanted.
    """
    name, _, rest = description.partition(":")
    entry = EXPERTS[modality][choice(modality, name, EXPERTS[modality])]
    options, paths = dict(entry.options), []
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or "/" in key or not entry.options:  # an option has no folders in its name
            paths.append(part)
            continue
        default = entry.options[choice(f"option of {modality} {name}", key, entry.options)]
        options[key] = (
            value
            if isinstance(default, str)
            else _number(f"{modality} {name}", key, value, whole=isinstance(default, int))
        )
    if len(paths) != bool(entry.path):
        wanted = f"{name}:PATH, {entry.path}" if entry.path else f"{name} without a path"
        raise UsageError(f"{modality} is {description!r}; allowed: {wanted}")
    return Chosen(name, paths[0] if paths else "", options, entry)


def make(modality: str, description: str, depth_folder: str) -> Expert:
    """The expert of a description, see `Chosen.make`. Raises UsageError as `parse` does, and for what it refuses."""
    return parse(modality, description).make(depth_folder)


def _number(owner: str, key: str, value: str, whole: bool) -> float:
    allowed = "a whole number" if whole else "a number"
    try:
        number = float(value)
    except ValueError as error:
        raise UsageError(f"option {key} of {owner} is {value!r}; allowed: {allowed}") from error
    if not math.isfinite(number) or (whole and not number.is_integer()):
        raise UsageError(f"option {key} of {owner} is {value!r}; allowed: {allowed}")
    return number
