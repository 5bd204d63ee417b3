"""Vectorised ray tracer: scenes to RGB, metric depth, normals and region masks, by exact geometry.

Solids of one kind are intersected in one call over a flat list of (scene, ray) pairs, and only
where a ray meets the ball around the solid. Arrays carry components first, ``[3, N, P]`` for N
scenes and P rays; ray directions have unit depth, so a ray parameter is a z-depth in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmgen_jax.data.shapes.scenes import FOCAL, ROOM, Scenes
from mmgen_jax.data.shapes.solids import SOLIDS
from mmgen_jax.data.shapes.worlds import SINGLE, World

_CHUNK = 1 << 18  # number of rays computed at once, few enough for their buffers to stay in cache
_BIAS = np.float32(2e-3)  # metres above the surface at which shadow rays start


@dataclass
class _Hits:
    """The nearest hit of each ray: depth t [N, P], normal [3, N, P], surface uint8 [N, P], as `ROOM` says."""

    t: np.ndarray
    normal: np.ndarray
    surface: np.ndarray


def pixel_rays(size: int) -> np.ndarray:
    """Directions of unit depth through pixel centres, float64 [3, H, W]: multiply by z to get points."""
    steps = ((2 * np.arange(size) + 1) / size - 1) / FOCAL
    u, v = np.meshgrid(steps, -steps)
    return np.stack([u, v, np.full_like(u, -1.0)])


def render(
    seed: int, split: str, indices: np.ndarray, size: int, oversample: int = 2, world: World = SINGLE
) -> dict[str, np.ndarray]:
    """Renders scenes of a world. Scene i of a split is the same whatever the batch and the size.

    Args:
      seed: seed of the data set, at least 0.
      split: "train" or "test".
      indices: int [N], numbers of the scenes.
      size: height and width in pixels.
      oversample: number of rays per pixel, each way.
      world: what scenes are like.

    Returns:
      rgb uint8 [N, H, W, 3]; depth float32 [N, H, W], metres along the optical axis; normal float32
      [N, H, W, 3], unit, camera space (x right, y up, z towards the camera); mask uint8 [N, H, W],
      rows of the world's regions; class_id int32 [N], of the world's classes.

    Raises:
      ValueError: the split is unknown, size or oversample is below 1, or an index is negative.
    """
    if size < 1 or oversample < 1:
        raise ValueError(f"size and oversample: expected at least 1, got {size} and {oversample}")
    indices = np.asarray(indices)
    step = max(1, _CHUNK // (size * oversample) ** 2)
    chunks = [indices[i : i + step] for i in range(0, max(len(indices), 1), step)]
    parts = [_render(world, world.sample(seed, split, chunk), size, oversample) for chunk in chunks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _render(world: World, scenes: Scenes, size: int, oversample: int) -> dict[str, np.ndarray]:
    fine = pixel_rays(size * oversample).astype(np.float32)
    # Subsamples come first and pixels last, so that averages over subsamples run over contiguous memory.
    rays = fine.reshape(3, size, oversample, size, oversample).transpose(0, 2, 4, 1, 3).reshape(3, -1)
    hits = _trace(scenes, np.ascontiguousarray(rays))
    color = _shade(scenes, hits, rays)
    return {**_resolve(world, scenes, hits, color, size, oversample**2), "class_id": scenes.class_id}


def _trace(scenes: Scenes, rays: np.ndarray) -> _Hits:
    """First hits of the same P rays [3, P] in N scenes."""
    hits = _trace_room(scenes, rays)
    ray_square = (rays * rays).sum(0)
    t, surface, normal = hits.t.reshape(-1), hits.surface.reshape(-1), hits.normal.reshape(3, -1)
    for slot, name, who in _groups(scenes):
        center, scale = scenes.center[who, slot], scenes.scale[who, slot]
        toward = center[:, :1] * rays[0] + center[:, 1:2] * rays[1] + center[:, 2:] * rays[2]
        gap = (center * center).sum(-1)[:, None] - toward * toward / ray_square
        obj, ray = np.nonzero(gap < np.square(scale * SOLIDS[name].radius * 1.001)[:, None])
        # Rays start near the solid, so that the precision of float32 is used for the size of the solid.
        start = toward[obj, ray] / ray_square[ray] - scale[obj] * np.float32(SOLIDS[name].radius * 1.01)
        d = rays[:, ray]
        into = _object_axes(scenes, who, slot)[:, :, obj]
        o = _apply(into, start * d - center.T[:, obj])
        hit_t, hit_normal = SOLIDS[name].intersect(o, _apply(into, d))
        hit_t = hit_t + start
        at = who[obj] * rays.shape[1] + ray
        seen = np.nonzero(hit_t < t[at])[0]
        at = at[seen]
        t[at], surface[at] = hit_t[seen], ROOM + slot
        outward = scenes.rotation[who, slot].transpose(1, 2, 0)[:, :, obj[seen]]
        normal[:, at] = _apply(outward, hit_normal[:, seen])
    return hits


def _groups(scenes: Scenes):
    """Yields (slot, kind, scenes [K]) for all solids of one kind in one slot, so that each scene occurs once."""
    for slot in range(scenes.kind.shape[1]):
        for row, name in enumerate(SOLIDS):
            who = np.nonzero(scenes.kind[:, slot] == row)[0]
            if who.size:
                yield slot, name, who


def _object_axes(scenes: Scenes, who: np.ndarray, slot: int) -> np.ndarray:
    """Matrices [3, 3, K] from camera space to object space: the transposed rotation divided by the scale."""
    return (scenes.rotation[who, slot] / scenes.scale[who, slot, None, None]).transpose(2, 1, 0)


def _apply(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Multiplies matrices [3, 3, P] with vectors [3, P]."""
    return matrix[:, 0] * vector[0] + matrix[:, 1] * vector[1] + matrix[:, 2] * vector[2]


def _trace_room(scenes: Scenes, rays: np.ndarray) -> _Hits:
    """Hits of wall or ground, whichever is nearer. They meet in a corner that opens towards the camera."""
    t = []
    for i in range(2):
        n = scenes.plane_normal[:, i]
        against = n[:, :1] * rays[0] + n[:, 1:2] * rays[1] + n[:, 2:] * rays[2]
        t.append(np.where(against < -1e-6, scenes.plane_offset[:, i : i + 1] / np.minimum(against, -1e-6), np.inf))
    ground = t[1] < t[0]
    normal = [
        np.where(ground, scenes.plane_normal[:, 1, i, None], scenes.plane_normal[:, 0, i, None]) for i in range(3)
    ]
    return _Hits(np.minimum(t[0], t[1]).astype(np.float32), np.stack(normal), ground.astype(np.uint8))


def _shade(scenes: Scenes, hits: _Hits, rays: np.ndarray) -> np.ndarray:
    """Linear colours float32 [3, N, P]: sun with shadows, sky, a soft contact shade and a slight gloss."""
    light = scenes.light
    facing = sum(hits.normal[i] * light[:, i, None] for i in range(3))
    sun = np.maximum(facing, 0)
    sun[_shadowed(scenes, hits, rays, facing)] = 0
    up = scenes.plane_normal[:, 1]
    sky = sum(hits.normal[i] * up[:, i, None] for i in range(3)) * np.float32(0.25) + np.float32(0.75)
    sky *= scenes.ambient[:, None] * _contact_shade(scenes, hits, rays)
    direct = sun * (1.32 - scenes.ambient[:, None])
    color = _albedo(scenes, hits, rays)
    for i in range(3):
        color[i] *= sky * scenes.sky_color[:, i, None] + direct * scenes.sun_color[:, i, None]
    _add_gloss(color, scenes, hits, rays, sun)
    return color


def _albedo(scenes: Scenes, hits: _Hits, rays: np.ndarray) -> np.ndarray:
    """Linear colours of surfaces [3, N, P], with the patterns that are on them."""
    color = np.moveaxis(scenes.albedo, -1, 0)[:, np.arange(len(hits.t))[:, None], hits.surface]
    coats = scenes.coats
    if coats is None:
        return color
    for surface in range(scenes.albedo.shape[1]):
        scene, ray = np.nonzero(hits.surface == surface)
        share = coats.share(scene, surface, hits.t[scene, ray] * rays[:, ray])
        base, second = scenes.albedo[:, surface].T, coats.second[:, surface].T
        color[:, scene, ray] = base[:, scene] + share * (second - base)[:, scene]
    for slot, name, who in _groups(scenes):
        obj, ray = np.nonzero(hits.surface[who] == ROOM + slot)
        point = hits.t[who[obj], ray] * rays[:, ray] - scenes.center[who, slot].T[:, obj]
        part = SOLIDS[name].accent(_apply(_object_axes(scenes, who, slot)[:, :, obj], point))
        scene = who[obj[part]]
        color[:, scene, ray[part]] = coats.accent[scene, ROOM + slot].T
    return color


def _shadowed(scenes: Scenes, hits: _Hits, rays: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """Whether a solid stands between the light and what a ray sees, bool [N, P]."""
    shadow = np.zeros(hits.t.shape, bool)
    t = hits.t
    light_ray = sum(scenes.light[:, i, None] * rays[i] for i in range(3))
    ray_square = (rays * rays).sum(0)
    for slot, name, who in _groups(scenes):
        center, scale, light = scenes.center[who, slot], scenes.scale[who, slot], scenes.light[who]
        depth = t[who]
        # Squared distance of the centre from the shadow ray: |v|^2 - (v.l)^2 with v = center - point.
        along = (center * light).sum(-1)[:, None] - depth * light_ray[who]
        toward = center[:, :1] * rays[0] + center[:, 1:2] * rays[1] + center[:, 2:] * rays[2]
        square = (center * center).sum(-1)[:, None] + depth * (depth * ray_square - 2 * toward)
        bound = (scale * np.float32(SOLIDS[name].radius * 1.01))[:, None]
        maybe = (square - along * along < bound * bound) & (along > -bound) & (facing[who] > 0)
        obj, ray = np.nonzero(maybe)
        scene = who[obj]
        point = depth[obj, ray] * rays[:, ray] + _BIAS * hits.normal[:, scene, ray]
        into = _object_axes(scenes, who, slot)[:, :, obj]
        blocked, _ = SOLIDS[name].intersect(_apply(into, point - center.T[:, obj]), _apply(into, light.T[:, obj]))
        blocked = np.isfinite(blocked)
        shadow[scene[blocked], ray[blocked]] = True
    return shadow


def _contact_shade(scenes: Scenes, hits: _Hits, rays: np.ndarray) -> np.ndarray:
    """Share of the sky [N, P] that the room's surfaces see past the solids, each of which hides as much as a ball."""
    open_sky = np.ones(hits.t.shape, np.float32)
    room = hits.surface < ROOM
    ray_square = (rays * rays).sum(0)
    plane = np.where(hits.surface == 1, 1, 0)
    for slot, name, who in _groups(scenes):
        center, depth = scenes.center[who, slot], hits.t[who]
        toward = center[:, :1] * rays[0] + center[:, 1:2] * rays[1] + center[:, 2:] * rays[2]
        square = (center * center).sum(-1)[:, None] + depth * (depth * ray_square - 2 * toward)
        height = (scenes.plane_normal[who] * center[:, None]).sum(-1) - scenes.plane_offset[who]
        radius = scenes.scale[who, slot] * np.float32(SOLIDS[name].bulk)
        above = np.take_along_axis(height, plane[who], 1)
        # Form factor of a ball over a plane: cos(angle) (r / distance)^2.
        hidden = above * np.square(radius)[:, None] / (square * np.sqrt(square))
        open_sky[who] *= 1 - np.minimum(hidden, 0.75) * room[who]
    return open_sky


def _add_gloss(color: np.ndarray, scenes: Scenes, hits: _Hits, rays: np.ndarray, sun: np.ndarray) -> None:
    """Adds a Blinn-Phong highlight to solids, in place."""
    at = np.nonzero((hits.surface >= ROOM).ravel())[0]
    scene, ray = np.divmod(at, rays.shape[1])
    view = -rays[:, ray]
    half = scenes.light.T[:, scene] + view / np.sqrt((view * view).sum(0))
    shine = (hits.normal.reshape(3, -1)[:, at] * half).sum(0) / np.sqrt((half * half).sum(0))
    shine = np.maximum(shine, 0)
    for _ in range(5):  # to the power of 32
        shine = shine * shine
    strength = scenes.gloss[scene, hits.surface.ravel()[at]] * shine * (sun.ravel()[at] > 0)
    color.reshape(3, -1)[:, at] += strength * scenes.sun_color.T[:, scene]


def _resolve(
    world: World, scenes: Scenes, hits: _Hits, color: np.ndarray, size: int, samples: int
) -> dict[str, np.ndarray]:
    """Averages subsamples to pixels; depth and normals only over the region with most of the subsamples."""
    n = len(hits.t)
    region = scenes.region[np.arange(n)[:, None], hits.surface].reshape(n, samples, -1)
    votes = np.stack([(region == r).sum(1) + first for r, first in enumerate(world.priority)])
    mask = votes.argmax(0).astype(np.uint8)
    weight = (region == mask[:, None]).astype(np.float32)
    weight /= weight.sum(1, keepdims=True)
    depth = (hits.t.reshape(n, samples, -1) * weight).sum(1)
    normal = (hits.normal.reshape(3, n, samples, -1) * weight).sum(2)
    normal /= np.maximum(np.sqrt((normal * normal).sum(0)), np.float32(1e-9))
    # Light adds up linearly. The square root approximates the curve of displays.
    linear = color.reshape(3, n, samples, -1).mean(2)
    rgb = np.rint(255 * np.sqrt(np.clip(linear, 0, 1))).astype(np.uint8)
    shape = (n, size, size)
    return {
        "rgb": np.moveaxis(rgb, 0, -1).reshape(*shape, 3),
        "depth": depth.reshape(shape),
        "normal": np.moveaxis(normal, 0, -1).reshape(*shape, 3),
        "mask": mask.reshape(shape),
    }
