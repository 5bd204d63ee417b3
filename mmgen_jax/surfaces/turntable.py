"""Pictures of a mesh from beside the camera: points on its triangles, of which the nearest one in a pixel is seen."""

from __future__ import annotations

import io
import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mmgen_jax.surfaces.meshes import Mesh

FRAMES = 24
SIDE = 256  # pixels of a frame, each way
_SWING = 28.0  # degrees to either side: what the picture does not show is not there
_RISE = 9.0  # degrees up and down
_MARGIN = 0.92  # share of a frame that the picture's own view fills
_MILLISECONDS = 110  # a frame
_COLOURS = 96  # of an animation
_PAPER = 244  # the grey behind all
_MOST = 500_000  # points that are drawn
_LIGHT = np.array([-0.4, 0.55, 0.73])  # unit, about


def frames(
    mesh: Mesh, colors: UInt8[np.ndarray, "V 3"], fov: float, count: int = FRAMES
) -> UInt8[np.ndarray, "N H W 3"]:
    """Pictures of a mesh, with its colours on the left and in plain grey under a light on the right.

    The camera swings around the middle of the mesh, once from side to side and a little up and down.

    Args:
      mesh: in camera space.
      colors: of its vertices.
      fov: field of view of the width of the picture that the mesh is of, in degrees.
      count: number of frames.
    """
    light = np.abs(mesh.normals() @ _LIGHT)[:, None] * 165 + 60
    painted = np.concatenate([colors, np.repeat(light, 3, 1)], -1)
    points, paint = _covered(mesh, painted)
    middle = np.median(points, 0) * [0, 0, 1]
    half = np.tan(np.radians(fov / 2)) * max(1.0, (np.ptp(mesh.pixel[:, 0]) + 1) / (np.ptp(mesh.pixel[:, 1]) + 1))
    angles = 2 * np.pi * np.arange(count) / count
    pictures = []
    for angle in angles:
        turn = _rotation(math.radians(_SWING) * math.sin(angle), math.radians(_RISE) * math.sin(2 * angle))
        seen = _drawn((points - middle) @ turn.T + middle, paint, half)
        pictures.append(np.concatenate([seen[..., :3], seen[..., 3:]], 1))
    return np.stack(pictures)


def gif(pictures: UInt8[np.ndarray, "N H W 3"]) -> bytes:
    """An animation that repeats for ever."""
    file, palette = io.BytesIO(), Image.fromarray(np.concatenate(pictures)).quantize(_COLOURS)
    plain = Image.Dither.NONE  # dots would flicker, and make the file several times as large
    images = [Image.fromarray(picture).quantize(palette=palette, dither=plain) for picture in pictures]
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=_MILLISECONDS, loop=0)
    return file.getvalue()


def _rotation(yaw: float, pitch: float) -> Float[np.ndarray, "3 3"]:
    """Turns by radians about the upward axis, then about the one to the right."""
    (cy, sy), (cp, sp) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch))
    return np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def _covered(mesh: Mesh, paint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points on all triangles and their colours, so many that no pixel between them stays empty, and the vertices."""
    width = max(np.ptp(mesh.pixel, 0).max(initial=0), 1)
    steps = math.ceil(1.5 * SIDE / width)
    steps = max(1, min(steps, math.isqrt(_MOST // max(len(mesh.faces), 1))))
    points, colors = (np.concatenate([mesh.spread(x, steps), x]) for x in (mesh.points, paint))
    return points, colors


def _drawn(points: np.ndarray, paint: np.ndarray, half: float) -> np.ndarray:
    """The nearest point in each pixel of a square frame whose half is as wide as `half` at unit depth."""
    depth = -points[:, 2]
    safe = np.where(depth > 1e-9, depth, 1)
    scale = _MARGIN * SIDE / 2 / half
    x = np.floor(points[:, 0] / safe * scale + SIDE / 2).astype(int)
    y = np.floor(SIDE / 2 - points[:, 1] / safe * scale).astype(int)
    inside = (depth > 1e-9) & (x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)
    place, near = (y * SIDE + x)[inside], depth[inside]
    order = np.argsort(-near, kind="stable")  # the nearest is written last
    picture = np.full((SIDE * SIDE, paint.shape[-1]), _PAPER, np.uint8)
    picture[place[order]] = np.rint(paint[inside][order]).astype(np.uint8)
    return picture.reshape(SIDE, SIDE, -1)
