"""What a data set says of itself, and a model trained on it remembers: one value instead of five loose ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mmgen_jax.modalities.geometry import Camera


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

    def with_camera_of(self, other: Facts) -> Facts:
        """These facts with the field of view and the depth range of a data set that says them."""
        return dataclasses.replace(self, fov_degrees=other.fov_degrees, depth_range=other.depth_range)

    @property
    def camera(self) -> Camera | None:
        """What turns relative depth into geometry; None if the data set does not say it."""
        if self.fov_degrees is None or self.depth_range is None:
            return None
        return Camera(self.fov_degrees, *self.depth_range)
