"""The benchmarks of normals that papers share since DSINE (Bae and Davison 2024), in the folders of its dsine_eval.

Beside each image NAME_img.png or .jpg there are NAME_normal.png of 8 or 16 bits, (n + 1) / 2, or NAME_normal.exr, and
NAME_intrins.npy, the 3 x 3 matrix of the camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from mmgen_jax.data.benchmarks.scene import colours, folder
from mmgen_jax.modalities import files as image_files
from mmgen_jax.modalities.conventions import Axes
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.pixels import normalise
from mmgen_jax.system.errors import UsageError, choice

# Name of a benchmark -> number of its images.
IMAGES = {"nyuv2": 654, "scannet": 300, "ibims": 100, "sintel": 1064, "vkitti": 1000}
AXES = Axes("-x,y,z")  # of all these files: x left, y up, z towards the camera
_MARK = "_img"
_TEST = {"nyuv2": "test"}  # folders of a benchmark that has others besides


@dataclass(frozen=True, eq=False)
class NormalScene:
    """An image and its normals, in the axes of the files.

    Attributes:
      rgb: the image.
      normal: unit vectors; any vector where it is not valid.
      valid: pixels that have a normal.
      camera: matrix of the intrinsics, in pixels.
    """

    rgb: UInt8[np.ndarray, "H W 3"]
    normal: Float[np.ndarray, "H W 3"]
    valid: Bool[np.ndarray, "H W"]
    camera: Float[np.ndarray, "3 3"]

    @property
    def rays(self) -> Float[np.ndarray, "H W 3"]:
        """Directions from the camera to what pixels see: x right, y up, z towards the camera, of which each is -1."""
        height, width = self.valid.shape
        x = (np.arange(width) + 0.5 - self.camera[0, 2]) / self.camera[0, 0]
        y = (np.arange(height) + 0.5 - self.camera[1, 2]) / self.camera[1, 1]
        return np.stack(np.broadcast_arrays(x[None, :], -y[:, None], -1.0), -1)


@dataclass(frozen=True)
class NormalScenes:
    """The scenes of a benchmark that was found on disk: their names, and what reads the one of a number."""

    names: tuple[str, ...]
    load: Callable[[int], NormalScene]


def opened(name: str, root: str) -> NormalScenes:
    """The scenes of a benchmark in dsine_eval, or in its folder of this name. Raises UsageError."""
    choice("--benchmark", name, IMAGES)
    base = folder(root)
    for inner in (name, _TEST.get(name, "")):
        base = base / inner if (base / inner).is_dir() else base
    paths = sorted(path for path in base.rglob(f"*{_MARK}.*") if path.suffix.lower() in (".png", ".jpg"))
    if not paths:
        raise UsageError(f"--root {root} has no images *{_MARK}.png or *{_MARK}.jpg of {name}")
    stems = [path.with_name(path.stem.removesuffix(_MARK)) for path in paths]

    def load(i: int) -> NormalScene:
        rgb = colours(paths[i])
        normal, valid = _normals(stems[i], rgb.shape[:2])
        return NormalScene(rgb, normal, valid, _camera(stems[i].with_name(f"{stems[i].name}_intrins.npy")))

    return NormalScenes(tuple(str(stem.relative_to(base)) for stem in stems), load)


def _normals(stem: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Normals of a file beside an image, and which pixels have one. Raises UsageError for what is none."""
    known = [stem.with_name(f"{stem.name}_normal{suffix}") for suffix in (".png", ".exr")]
    path = next((path for path in known if path.is_file()), None)
    if path is None:
        raise UsageError(f"{known[0]} is not there, and no {known[1].name}; allowed: one of them beside each image")
    source = Source(f"normals {path}")
    image = image_files.three_channels(image_files.read_image(path, source), source)
    numbers = image.samples.astype(np.float32)
    if numbers.shape[:2] != shape:
        raise source.error(f"has {numbers.shape[1]} x {numbers.shape[0]} pixels", f"{shape[1]} x {shape[0]}")
    if image.is_float:
        finite = np.isfinite(numbers).all(-1, keepdims=True)
        vectors = np.where(finite, numbers, 0)
        valid = np.linalg.norm(vectors, axis=-1) > 0.5
    else:
        vectors, valid = numbers / (image.top / 2) - 1, numbers.any(-1)
    return normalise(np.where(valid[..., None], vectors, [0, 0, 1])).astype(np.float32), valid


def _camera(path: Path) -> np.ndarray:
    found = image_files.read_array(path, Source(f"file {path}"))
    if found.shape != (3, 3) or not np.isfinite(found).all() or not (found[0, 0] > 0 and found[1, 1] > 0):
        raise UsageError(f"file {path} has shape {found.shape}; allowed: 3 x 3 numbers of a camera, in pixels")
    return found.astype(np.float64)
