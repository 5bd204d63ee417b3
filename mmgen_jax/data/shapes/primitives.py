"""Ray intersection of the solids that rendered scenes are made of, each in its own object space.

Every function takes ray origins and directions float32 ``[3, P]`` (components first, so that every
operation runs over contiguous memory) and returns ``(t, normal)``: the ray parameter of the first
entry in front of the origin, float32 ``[P]``, inf where the ray misses, and the outward unit normal
there ``[3, P]`` (undefined where it misses). Directions need not be unit vectors, so a caller whose
directions have unit depth reads depth off ``t``. An origin inside a solid hits nothing of it.
"""

from __future__ import annotations

import numpy as np

BOX = 0.85
CYLINDER_RADIUS, CYLINDER_HALF = 0.72, 0.95
CONE_BASE, CONE_APEX, CONE_RADIUS = -0.75, 1.2, 0.98
TORUS_MAJOR, TORUS_MINOR = 1.0, 0.38
CROSS_LENGTH, CROSS_WIDTH = 1.2, 0.36
BELL_RADIUS, BELL_OFFSET, ROD_RADIUS = 0.62, 0.86, 0.22
ARCH_HALF = (1.1, 1.0, 0.45)
TUNNEL_RADIUS, TUNNEL_CENTER = 0.56, 0.02
TORUS_STEPS = 64


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _safe(x: np.ndarray) -> np.ndarray:
    """Replaces zeros by tiny numbers, so that a ray parallel to a face meets it at a huge distance."""
    return np.where(np.abs(x) < 1e-9, np.float32(1e-9), x)


def _roots(a: np.ndarray, half_b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both roots of a t^2 + 2 half_b t + c = 0, the smaller first; (inf, -inf) if there are none."""
    disc = half_b * half_b - a * c
    root = np.sqrt(np.maximum(disc, 0))
    none = disc < 0
    near, far = (-half_b - root) / a, (-half_b + root) / a
    return np.where(none, np.inf, near), np.where(none, -np.inf, far)


def _first(t: np.ndarray, hit: np.ndarray) -> np.ndarray:
    return np.where(hit & (t > 0), t, np.float32(np.inf)).astype(np.float32, copy=False)


def nearest(*hits: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The hit of a union of solids: the nearest of their hits."""
    t, normal = hits[0]
    for other_t, other_normal in hits[1:]:
        closer = other_t < t
        t, normal = np.where(closer, other_t, t), np.where(closer, other_normal, normal)
    return t, normal


def ball(o: np.ndarray, d: np.ndarray, radius: float = 1.0, x: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with a ball centred at (x, 0, 0)."""
    o = np.stack([o[0] - np.float32(x), o[1], o[2]])
    a = _dot(d, d)
    # The point of the ray nearest to the centre keeps the discriminant accurate far from the ball.
    middle = -_dot(o, d) / a
    foot = o + middle * d
    gap = np.float32(radius * radius) - _dot(foot, foot)
    t = middle - np.sqrt(np.maximum(gap, 0) / a)
    t = _first(t, gap > 0)
    return t, (o + np.where(np.isfinite(t), t, 0) * d) / np.float32(radius)


def _slabs(o, d, half) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entry and exit of an axis-aligned box, and the entry parameters of its three slabs [3, P]."""
    half = np.asarray(half, np.float32)[:, None]
    inverse = 1 / _safe(d)
    middle, reach = -o * inverse, half * np.abs(inverse)
    near = middle - reach
    far = middle + reach
    return np.maximum(np.maximum(near[0], near[1]), near[2]), np.minimum(np.minimum(far[0], far[1]), far[2]), near


def block(o: np.ndarray, d: np.ndarray, half=(BOX, BOX, BOX)) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with an axis-aligned box of given half sizes."""
    enter, leave, near = _slabs(o, d, half)
    t = _first(enter, enter < leave)
    axis = near.argmax(0)
    return t, np.stack([np.where(axis == i, -np.sign(d[i]), np.float32(0)) for i in range(3)])


def rod(o, d, radius: float = CYLINDER_RADIUS, half: float = CYLINDER_HALF, axis: int = 1):
    """Intersects rays with a capped cylinder along an axis."""
    u, v = [i for i in range(3) if i != axis]
    a = np.maximum(d[u] * d[u] + d[v] * d[v], np.float32(1e-12))
    near, far = _roots(a, o[u] * d[u] + o[v] * d[v], o[u] * o[u] + o[v] * o[v] - np.float32(radius * radius))
    inverse = 1 / _safe(d[axis])
    cap = -o[axis] * inverse - np.float32(half) * np.abs(inverse)
    cap_far = -o[axis] * inverse + np.float32(half) * np.abs(inverse)
    enter = np.maximum(near, cap)
    t = _first(enter, enter < np.minimum(far, cap_far))
    at = np.where(np.isfinite(t), t, 0)
    side = near > cap
    normal = np.empty_like(o)
    normal[u] = np.where(side, (o[u] + at * d[u]) / np.float32(radius), 0)
    normal[v] = np.where(side, (o[v] + at * d[v]) / np.float32(radius), 0)
    normal[axis] = np.where(side, 0, -np.sign(d[axis]))
    return t, normal


def cone(
    o: np.ndarray, d: np.ndarray, foot: float = CONE_BASE, tip: float = CONE_APEX, radius: float = CONE_RADIUS
) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with a cone whose base of the given radius is at y = foot, and its tip at y = tip."""
    height = tip - foot
    slope = np.float32(radius / height)
    k = slope * slope
    y = o[1] - np.float32(tip)
    a = _safe(d[0] * d[0] + d[2] * d[2] - k * d[1] * d[1])
    half_b = o[0] * d[0] + o[2] * d[2] - k * y * d[1]
    disc = half_b * half_b - a * (o[0] * o[0] + o[2] * o[2] - k * y * y)
    root = np.sqrt(np.maximum(disc, 0))
    best = np.full(o.shape[1], np.inf, np.float32)
    for t in ((-half_b - root) / a, (-half_b + root) / a):
        depth = y + t * d[1]  # 0 at the tip, -height at the base; the mirrored cone lies above 0
        hit = (disc > 0) & (depth < 0) & (depth > -height)
        # The ray enters if it runs against the outward normal.
        outward = (o[0] + t * d[0]) * d[0] + (o[2] + t * d[2]) * d[2] - k * depth * d[1]
        best = np.minimum(best, _first(t, hit & (outward < 0)))
    disc_t = (np.float32(foot) - o[1]) / _safe(d[1])
    px, pz = o[0] + disc_t * d[0], o[2] + disc_t * d[2]
    base = _first(disc_t, (px * px + pz * pz < radius**2) & (d[1] > 0))
    at = np.where(np.isfinite(best), best, 0)
    x, z = o[0] + at * d[0], o[2] + at * d[2]
    length = np.sqrt(x * x + z * z) * np.sqrt(1 + k)
    length = np.maximum(length, np.float32(1e-9))
    up = np.broadcast_to(slope / np.sqrt(1 + k), x.shape)
    down = np.zeros_like(o)
    down[1] = -1
    return nearest((best, np.stack([x / length, up, z / length])), (base, down))


def dome(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with the upper half of a ball of radius 1, which has a flat bottom at y = 0."""
    a = _dot(d, d)
    near, far = _roots(a, _dot(o, d), _dot(o, o) - np.float32(1))
    level = -o[1] / _safe(d[1])  # where the ray passes the bottom
    rising = d[1] > 0
    enter = np.where(rising, np.maximum(near, level), near)
    leave = np.where(rising, far, np.minimum(far, level))
    t = _first(enter, enter < leave)
    side = o + np.where(np.isfinite(t), t, 0) * d
    bottom = rising & (level > near)
    flat = np.array([0, -1, 0], np.float32)[:, None]
    return t, np.where(bottom, flat, side)


def gable(o: np.ndarray, d: np.ndarray, half: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with a prism along z: 2 half[0] wide at y = 0, with its ridge at x = 0 and y = 2 half[1]."""
    x, y, z = half
    slope = np.hypot(x, 2 * y)
    normals = np.array(
        [(0, -1, 0), (2 * y / slope, x / slope, 0), (-2 * y / slope, x / slope, 0), (0, 0, 1), (0, 0, -1)]
    )
    offsets = np.array([0, 2 * y * x / slope, 2 * y * x / slope, z, z], np.float32)[:, None]
    normals = normals.astype(np.float32)
    along = _safe(normals @ d)
    at = (offsets - normals @ o) / along
    entries = np.where(along < 0, at, -np.inf)
    enter, leave = entries.max(0), np.where(along > 0, at, np.inf).min(0)
    return _first(enter, enter < leave), normals[entries.argmax(0)].T


def torus(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with a torus around the z axis, by sphere tracing of its exact distance and Newton steps."""
    length = np.sqrt(_dot(d, d))
    unit = d / length
    enter, leave, _ = _slabs(o, unit, (TORUS_MAJOR + TORUS_MINOR,) * 2 + (TORUS_MINOR,))
    s = np.maximum(enter, 0)
    alive = np.nonzero(enter < leave)[0]
    alive = alive[leave[alive] > 0]
    hits = []
    for _ in range(TORUS_STEPS):
        distance = _torus_distance(o[:, alive] + s[alive] * unit[:, alive])[0]
        hits.append(alive[distance < 1e-4])
        s[alive] += np.maximum(distance, 0)
        alive = alive[(distance >= 1e-4) & (s[alive] < leave[alive])]
        if not alive.size:
            break
    hit = np.concatenate([*hits, alive])  # rays that still move slowly may graze the surface
    for _ in range(3):
        distance, normal = _torus_distance(o[:, hit] + s[hit] * unit[:, hit])
        s[hit] -= distance / np.minimum(_dot(normal, unit[:, hit]), np.float32(-0.1))
    distance, normal = _torus_distance(o[:, hit] + s[hit] * unit[:, hit])
    # Only entries count, since a shadow ray starts on the surface, and only where Newton's method has converged.
    entry = np.zeros(s.shape, bool)
    entry[hit] = (_dot(normal, unit[:, hit]) < 0) & (np.abs(distance) < 5e-4)
    normals = np.zeros_like(o)
    normals[:, hit] = normal
    return _first(s / length, entry), normals


def _torus_distance(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance [P] and its gradient [3, P]."""
    ring = np.maximum(np.sqrt(p[0] * p[0] + p[1] * p[1]), np.float32(1e-9))
    out = ring - np.float32(TORUS_MAJOR)
    tube = np.maximum(np.sqrt(out * out + p[2] * p[2]), np.float32(1e-9))
    radial = out / (tube * ring)
    return tube - np.float32(TORUS_MINOR), np.stack([p[0] * radial, p[1] * radial, p[2] / tube])


def cross(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with three square bars that cross each other."""
    bars = CROSS_WIDTH + (CROSS_LENGTH - CROSS_WIDTH) * np.eye(3)
    return nearest(*(block(o, d, half) for half in bars))


def dumbbell(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with two balls on a rod along x."""
    return nearest(
        ball(o, d, BELL_RADIUS, -BELL_OFFSET),
        ball(o, d, BELL_RADIUS, BELL_OFFSET),
        rod(o, d, ROD_RADIUS, BELL_OFFSET, axis=0),
    )


def arch(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersects rays with a gate: a box with a round-topped tunnel along z."""
    enter, leave, near = _slabs(o, d, ARCH_HALF)
    tunnel_in, tunnel_out, tunnel_normal = _tunnel(o, d)
    start = np.maximum(enter, 0)
    crosses = (enter < leave) & (leave > 0)
    inside = crosses & (tunnel_in < start) & (start < tunnel_out)
    front = _first(enter, crosses & ~inside)
    back = _first(tunnel_out, inside & (tunnel_out < leave))
    axis = near.argmax(0)
    face = np.stack([np.where(axis == i, -np.sign(d[i]), np.float32(0)) for i in range(3)])
    return nearest((front, face), (back, tunnel_normal))


def _tunnel(o: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entry and exit of an endless tunnel (disc above, walls below) and the solid's normal at the exit."""
    y = o[1] - np.float32(TUNNEL_CENTER)
    a = np.maximum(d[0] * d[0] + d[1] * d[1], np.float32(1e-12))
    c = o[0] * o[0] + y * y - np.float32(TUNNEL_RADIUS**2)
    disc_in, disc_out = _roots(a, o[0] * d[0] + y * d[1], c)
    inverse = 1 / _safe(d[0])
    wall_in = -o[0] * inverse - np.float32(TUNNEL_RADIUS) * np.abs(inverse)
    wall_out = -o[0] * inverse + np.float32(TUNNEL_RADIUS) * np.abs(inverse)
    level = -y / _safe(d[1])  # where the ray passes the height of the disc's centre
    wall_in = np.where(d[1] < 0, np.maximum(wall_in, level), wall_in)
    wall_out = np.where(d[1] > 0, np.minimum(wall_out, level), wall_out)
    missed = wall_in >= wall_out
    wall_in, wall_out = np.where(missed, np.inf, wall_in), np.where(missed, -np.inf, wall_out)
    # Disc and walls together are convex, so the union of both intervals is one interval.
    out = np.maximum(disc_out, wall_out)
    at = np.where(np.isfinite(out), out, 0)
    round_part = disc_out > wall_out
    x = np.where(round_part, -(o[0] + at * d[0]) / np.float32(TUNNEL_RADIUS), -np.sign(d[0]))
    up = np.where(round_part, -(y + at * d[1]) / np.float32(TUNNEL_RADIUS), 0)
    return np.minimum(disc_in, wall_in), out, np.stack([x, up, np.zeros_like(x)])
