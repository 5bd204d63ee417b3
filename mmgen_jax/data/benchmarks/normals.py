"""The benchmarks of normals that papers share since DSINE (Bae and Davison 2024), in the folders of its dsine_eval.

Beside each image NAME_img.png or .jpg there are NAME_normal.png of 8 or 16 bits, (n + 1) / 2, or NAME_normal.exr, and
NAME_intrins.npy, the 3 x 3 matrix of the camera. And DIODE (Vasiljevic et al. 2019) from its own files: NAME.png and
NAME_normal.npy, vectors that are zero where there is no normal, of one camera.
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
IMAGES = {"nyuv2": 654, "scannet": 300, "ibims": 100, "sintel": 1064, "vkitti": 1000, "diode": 771}
AXES = Axes("-x,y,z")  # of all files of dsine_eval: x left, y up, z towards the camera
_DIODE = "_normal.npy"
_DIODE_CAMERA = 886.81 / 1024, 927.06 / 768  # focal lengths as shares of width and height, by its authors
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
    """The scenes of DIODE, or of a benchmark in dsine_eval or in its folder of this name. Raises UsageError."""
    choice("--benchmark", name, IMAGES)
    return _diode(folder(root), root) if name == "diode" else _dsine(folder(root), name, root)


def authors_axes(name: str) -> Axes | None:
    """The axes of a benchmark's files as their authors say; None for DIODE, of which it is not known."""
    return None if name == "diode" else AXES


def _diode(base: Path, root: str) -> NormalScenes:
    """All images below the folder val, with the normals beside them, or below its indoors or outdoor."""
    paths = sorted(base.rglob(f"*{_DIODE}"))
    if not paths:
        raise UsageError(f"--root {root} has no files *{_DIODE} of diode")
    stems = [path.with_name(path.name.removesuffix(_DIODE)) for path in paths]

    def load(i: int) -> NormalScene:
        rgb = colours(stems[i].with_name(f"{stems[i].name}.png"))
        height, width = rgb.shape[:2]
        vectors = image_files.read_array(paths[i], Source(f"normals {paths[i]}"))
        if vectors.shape != rgb.shape or vectors.dtype.kind != "f":
            found = f"has {vectors.dtype} of shape {vectors.shape}"
            raise UsageError(f"normals {paths[i]} {found}; allowed: floats of shape {rgb.shape}")
        camera = np.diag([_DIODE_CAMERA[0] * width, _DIODE_CAMERA[1] * height, 1])
        camera[:2, 2] = width / 2, height / 2
        return NormalScene(rgb, *_unit(vectors.astype(np.float32)), camera)

    return NormalScenes(tuple(str(stem.relative_to(base)) for stem in stems), load)


def _unit(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float vectors at length one, and which are normals: those that are finite and not shorter than half."""
    vectors = np.where(np.isfinite(vectors).all(-1, keepdims=True), vectors, 0)
    valid = np.square(vectors).sum(-1) > 0.25
    return normalise(np.where(valid[..., None], vectors, [0, 0, 1])).astype(np.float32), valid


def _dsine(base: Path, name: str, root: str) -> NormalScenes:
    """The scenes in dsine_eval."""
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
        return _unit(numbers)
    vectors, valid = numbers / (image.top / 2) - 1, np.asarray(numbers.any(-1))
    return normalise(np.where(valid[..., None], vectors, [0, 0, 1])).astype(np.float32), valid


def _camera(path: Path) -> np.ndarray:
    found = image_files.read_array(path, Source(f"file {path}"))
    if found.shape != (3, 3) or not np.isfinite(found).all() or not (found[0, 0] > 0 and found[1, 1] > 0):
        raise UsageError(f"file {path} has shape {found.shape}; allowed: 3 x 3 numbers of a camera, in pixels")
    return found.astype(np.float64)
