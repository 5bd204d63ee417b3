"""A picture in three dimensions: its depth, normals and colours made points and a mesh, and written to files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import cast

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from mmgen_jax.modalities import slopes
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import to_inverse_depth
from mmgen_jax.modalities.grouping import numbered
from mmgen_jax.modalities.pixels import to_pixels
from mmgen_jax.surfaces import turntable
from mmgen_jax.surfaces.cameras import View, view
from mmgen_jax.surfaces.integration import integrate
from mmgen_jax.surfaces.meshes import Mesh, mesh
from mmgen_jax.system import files, notebook
from mmgen_jax.system.errors import UsageError, choice
from mmgen_jax.system.rules import number, require

_FOV = number(1, 170)
_NO_NORMAL = 0.5  # length of a vector that says nothing; also of NaN
_UNLIT = "KHR_materials_unlit"  # of glTF: photos are lit already


@dataclass(frozen=True)
class Reconstruction:
    """A picture in three dimensions, in camera space: x right, y up, z towards the camera, which is at the origin.

    Attributes:
      view: the camera, what the depth means, and where both are known from.
      mesh: vertices and triangles.
      image: the colours of the picture, uint8 [H, W, 3].
      guided: whether normals had a say.
    """

    view: View
    mesh: Mesh
    image: np.ndarray
    guided: bool

    @property
    def points(self) -> Float[np.ndarray, "V 3"]:
        """One point for each valid pixel, in metres if `view.metric`."""
        return self.mesh.points

    @property
    def colors(self) -> UInt8[np.ndarray, "V 3"]:
        """The colour of each point."""
        return self.image[tuple(self.mesh.pixel.T)]

    def __str__(self) -> str:
        """One line that says what is known of the camera and of the depth, and what was made."""
        how = "depth guided by normals" if self.guided else "depth alone"
        return f"{self.view}; {how}; {len(self.points)} points, {len(self.mesh.faces)} triangles"

    def _repr_html_(self) -> str:
        """The turntable, which notebooks show."""
        return notebook.figure(self._gif(), "gif", str(self))

    def save(self, path: epath.PathLike) -> None:
        """Writes the mesh with its texture (.glb), the points with colours and normals (.ply) or a turntable (.gif).

        Raises UsageError for another suffix and a place that cannot be written, and RunError for a disk that is full.
        """
        path = files.path_of(path, "path")
        choice(f"suffix of {path}", PurePath(path).suffix.lower(), WRITERS)
        files.check_place(path, "path", folder=False)
        with files.writing("reconstruction", path):
            files.write(path, WRITERS[PurePath(path).suffix.lower()](self))

    def _glb(self) -> bytes:
        import trimesh  # takes half a second

        height, width = self.image.shape[:2]
        row, column = self.mesh.pixel.T
        uv = np.stack([(column + 0.5) / width, 1 - (row + 0.5) / height], -1)
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=Image.fromarray(self.image), metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True
        )
        made = trimesh.Trimesh(
            self.points,
            self.mesh.faces,
            vertex_normals=self.mesh.normals(),
            visual=trimesh.visual.TextureVisuals(uv, material=material),
            process=False,
        )
        return cast(bytes, made.export(file_type="glb", include_normals=True, tree_postprocessor=_unlit))

    def _ply(self) -> bytes:
        import trimesh  # takes half a second

        made = trimesh.Trimesh(
            self.points, None, vertex_normals=self.mesh.normals(), vertex_colors=self.colors, process=False
        )
        return cast(bytes, made.export(file_type="ply", vertex_normal=True))

    def _gif(self) -> bytes:
        return turntable.gif(turntable.frames(self.mesh, self.colors, self.view.camera.fov))


WRITERS: dict[str, Callable[[Reconstruction], bytes]] = {
    ".glb": Reconstruction._glb,
    ".ply": Reconstruction._ply,
    ".gif": Reconstruction._gif,
}


def _unlit(tree: dict) -> None:
    tree["extensionsUsed"] = [_UNLIT]
    for material in tree["materials"]:
        material["extensions"] = {_UNLIT: {}}


def check_fov(name: str, fov: object) -> float | None:
    """A field of view that a user gives as `name`, if any. Raises UsageError for one outside 1 to 170 degrees."""
    if fov is None:
        return None
    number = fov.item() if isinstance(fov, np.generic) else fov
    require(name, number, _FOV)
    return float(number)  # type: ignore[arg-type]


def reconstruct(
    depth: Float[np.ndarray, "H W"],
    normal: Float[np.ndarray, "H W 3"] | None = None,
    rgb: UInt8[np.ndarray, "H W 3"] | None = None,
    fov: float | None = None,
    facts: Facts | None = None,
    valid: Bool[np.ndarray, "H W"] | None = None,
    mask: np.ndarray | None = None,
) -> Reconstruction:
    """Makes points and a mesh of one picture.

    Args:
      depth: relative inverse depth in [0, 1], 1 = nearest; a pixel that is not finite has none, and gets no vertex.
      normal: unit normals, shorter than 0.5 where they are not known. With them depth is integrated (`integration`),
        and what is not known of the camera is estimated.
      rgb: colours; where there are none, those of the normals.
      fov: field of view of the picture's width in degrees; None: that of `facts`, or it is estimated.
      facts: of the data set that depth is like: its field of view, and its range of depth in metres.
      valid: pixels that count besides.
      mask: region ids int [H, W] or colours [H, W, 3], between which normals continue nothing.

    Raises:
      UsageError: a field of view outside 1 to 170 degrees, or fewer than 2 x 2 pixels or none that is valid.
    """
    fov = check_fov("fov", fov)
    facts, there = facts or Facts(), np.isfinite(depth) if valid is None else valid & np.isfinite(depth)
    if min(depth.shape) < 2 or not there.any():
        found = f"{depth.shape[1]}x{depth.shape[0]} pixels, {int(there.sum())} of them valid"
        raise UsageError(f"depth has {found}; allowed: at least 2x2 pixels, and at least one that is valid")
    depth = np.where(there, depth, 0).astype(np.float64)
    told = np.zeros(there.shape, bool) if normal is None else there & (np.linalg.norm(normal, axis=-1) > _NO_NORMAL)
    guided = bool(told.any())
    seen = view(depth, normal if guided else None, fov, facts.fov_degrees, facts.depth_range, told if guided else there)
    camera = seen.camera
    surface = slopes.normals(depth, camera, there)
    inverse = to_inverse_depth(depth, camera.depth_range)
    if normal is not None and guided:
        surface = np.where(told[..., None], normal, surface)
        regions = None if mask is None else numbered(mask)
        inverse = integrate(inverse, surface, camera.fov, there, regions)
    picture = to_pixels(surface, np.uint8) if rgb is None else rgb
    return Reconstruction(seen, mesh(inverse, surface, camera.fov, there), picture, guided)
