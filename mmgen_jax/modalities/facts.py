"""What a data set says of itself, and a model trained on it remembers except for the field of view, as one value."""

from __future__ import annotations

import dataclasses
import reprlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mmgen_jax.modalities.geometry import Camera
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.rules import POSITIVE, Rule, number


def _is_name(value: object) -> bool:
    """Whether it is a text that can be printed: not empty, without control characters and halves of pairs."""
    return isinstance(value, str) and bool(value) and not any(unicodedata.category(c) in ("Cc", "Cs") for c in value)


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_name, value)) and len(set(value)) == len(value)


def _is_colour(value: object) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(type(c) is int and 0 <= c <= 255 for c in value)


def _is_range(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(POSITIVE.allows, value)) and value[0] < value[1]


_NAMES = Rule(_is_names, "a list of names, all different")
_ALLOWED = {
    "class_names": _NAMES,
    "regions": _NAMES,
    "palette": Rule(
        lambda v: isinstance(v, list) and all(map(_is_colour, v)), "a list of colours, each of 3 integers 0 to 255"
    ),
    "fov_degrees": Rule(
        lambda v: v is None or (number(0, 180).allows(v) and 0 < v < 180), "a number between 0 and 180"
    ),
    "depth_range": Rule(lambda v: v is None or _is_range(v), "two finite numbers above 0, the smaller one first"),
}


def check(stored: Mapping, source: object) -> None:
    """Raises UsageError for facts in a file, `source`, that make no sense; it may lack any and have other entries."""
    for name, rule in _ALLOWED.items():
        if name in stored and not rule.allows(stored[name]):
            raise UsageError(f"{name} in {source} is {reprlib.repr(stored[name])}; it must be {rule.words}")
    colours, regions = stored.get("palette", ()), stored.get("regions", ())
    if len(colours) != len(regions):
        raise UsageError(f"palette in {source} has {len(colours)} colours for {len(regions)} regions; one for each")


@dataclass(frozen=True, eq=False)
class Facts:
    """Facts of a data set; every one may be unknown.

    Attributes:
      palette: uint8 [R, 3], colour of each region of a mask; no rows where masks have any colours.
      regions: name of each palette row.
      class_names: names of the classes, in the order of class_id.
      fov_degrees: horizontal field of view of its images.
      depth_range: metres at which relative inverse depth is 1 and 0.
    """

    palette: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.uint8))
    regions: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    fov_degrees: float | None = None
    depth_range: tuple[float, float] | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping, class_names: tuple[str, ...] = ()) -> Facts:
        """From the content of a data set's metadata.json, which may lack any entry and have others."""
        fov, depth_range = metadata.get("fov_degrees"), metadata.get("depth_range")
        return cls(
            np.asarray(metadata.get("palette", ()), np.uint8).reshape(-1, 3),
            tuple(metadata.get("regions", ())),
            tuple(class_names),
            None if fov is None else float(fov),
            None if depth_range is None else (float(depth_range[0]), float(depth_range[1])),
        )

    @classmethod
    def from_json(cls, stored: Mapping) -> Facts:
        """From the content of a model's model.json. Raises KeyError where it lacks what all versions have written."""
        kept = {"palette": stored["palette"], "regions": stored["regions"], "depth_range": stored.get("depth_range")}
        return cls.from_metadata(kept, tuple(stored["class_names"]))

    def to_json(self) -> dict[str, list | None]:
        """The entries of `model.json`: all except for the field of view, which a model does not remember."""
        return {
            "class_names": list(self.class_names),
            "palette": np.asarray(self.palette).tolist(),
            "regions": list(self.regions),
            "depth_range": None if self.depth_range is None else list(self.depth_range),
        }

    @property
    def is_numbered(self) -> bool:
        """Whether the classes have no names but their numbers, as those of most checkpoints of others."""
        return self.class_names == tuple(map(str, range(len(self.class_names))))

    def named(self, class_names: tuple[str, ...]) -> Facts:
        """These facts with names of classes that were only numbered, if there are as many; else unchanged."""
        fits = self.is_numbered and len(class_names) == len(self.class_names)
        return dataclasses.replace(self, class_names=class_names) if fits else self

    def completed(self, other: Facts) -> Facts:
        """These facts, and those of `other` where they are unknown here; palette and regions belong together."""
        regions = self if len(self.palette) else other
        return dataclasses.replace(
            self,
            palette=regions.palette,
            regions=regions.regions,
            class_names=self.class_names or other.class_names,
            fov_degrees=self.fov_degrees or other.fov_degrees,
            depth_range=self.depth_range or other.depth_range,
        )

    def with_camera_of(self, other: Facts) -> Facts:
        """These facts with the field of view and the depth range of a data set that says them."""
        return dataclasses.replace(self, fov_degrees=other.fov_degrees, depth_range=other.depth_range)

    @property
    def camera(self) -> Camera | None:
        """What turns relative depth into geometry; None if the data set does not say it."""
        if self.fov_degrees is None or self.depth_range is None:
            return None
        return Camera(self.fov_degrees, *self.depth_range)
