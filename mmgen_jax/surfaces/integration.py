"""Depth made to agree with normals: bilateral normal integration (BiNI) with the depth that is there as a prior.

Cao, Santo, Shi, Okura and Matsushita, "Bilateral Normal Integration", ECCV 2022. Log depth w = log z is found for which

    sum over pixels i, and over left and right, and over up and down:
        s_ij a_i^2 (w_j - w_i - g_ij)^2   +   (f / reach)^2 (w_i - w0_i)^2

is least. Pixel j is the neighbour on one side; g_ij is the difference of log depth that the normal of i explains, and
a_i = -f n_i.r_i, with the focal length f in pixels and the ray r of unit depth, is the paper's n_z of perspective
cameras, by which a residual is one of a component of the normal. The two sides of i share a weight of one,
s_ij = sigmoid(k (other residual^2 - this residual^2)), so that a surface is continued on the side where it goes on, and
not across a jump.

Three things differ from the paper. The plane through i with normal n has z_j n.r_j = z_i n.r_i, so g_ij = log(n_i.r_i /
n_i.r_j) is exact on planes, of which the paper's -n_x / n_z is the first order. The prior is measured in pixels:
shapes smaller than `reach` follow the normals, and larger ones the depth. And the prior tells jumps as well: a pair
whose prior differs by `JUMP` more than the normal explains has no say, unless regions tell where edges are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.sparse import linalg
from scipy.special import expit

from mmgen_jax.modalities.geometry import rays

REACH = 0.1  # of the image's width
JUMP = 0.06  # relative difference of depth, beyond what normals explain, from which there is an edge
_K = 2.0  # the paper's
_ROUNDS = 30
_DONE = 1e-3  # relative change of the energy at which rounds end, as in the paper
_GRAZING = 0.02  # cosine of normal and ray: a surface that is seen at a smaller one is taken to be at this one


class Sides(NamedTuple):
    """What the normals say of pairs of neighbours, pixel `here` and pixel `there` beside it, one entry for each pair.

    Attributes:
      here, there: numbers of the pixels, int [E].
      rise: log(z_there / z_here) that the normal of `here` explains, float64 [E].
      weight: a of `here`, in pixels, float64 [E].
      side: 0 to 3, for right, left, down and up, int [E].
    """

    here: np.ndarray
    there: np.ndarray
    rise: np.ndarray
    weight: np.ndarray
    side: np.ndarray

    def kept(self, chosen: np.ndarray) -> Sides:
        """Those that are chosen, bool [E]."""
        return Sides(*(column[chosen] for column in self))


def neighbours(valid: Bool[np.ndarray, "H W"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs (here, there) of numbers of valid pixels: with `there` to the right, to the left, below and above."""
    number = np.arange(valid.size).reshape(valid.shape)
    right = (number[:, :-1], number[:, 1:])
    down = (number[:-1], number[1:])
    pairs = []
    for here, there in (right, right[::-1], down, down[::-1]):
        both = valid.ravel()[here] & valid.ravel()[there]
        pairs.append((here[both], there[both]))
    return pairs


def sides(normal: Float[np.ndarray, "H W 3"], fov: float, valid: Bool[np.ndarray, "H W"]) -> Sides:
    """What unit normals say of all pairs of neighbours, see `Sides`; each pair occurs twice, once from either side."""
    height, width = valid.shape
    ray, n = rays(height, width, fov).reshape(-1, 3), np.asarray(normal, np.float64).reshape(-1, 3)
    focal = width / 2 / np.tan(np.radians(fov / 2))
    length = np.linalg.norm(ray, axis=-1)

    def facing(pixel: np.ndarray, seen_from: np.ndarray) -> np.ndarray:
        return np.maximum(-(n[pixel] * ray[seen_from]).sum(-1), _GRAZING * length[seen_from])

    parts = []
    for side, (here, there) in enumerate(neighbours(valid)):
        rise = np.log(facing(here, here) / facing(here, there))
        parts.append((here, there, rise, focal * facing(here, here), np.full(len(here), side)))
    return Sides(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def integrate(
    inverse_depth: Float[np.ndarray, "H W"],
    normal: Float[np.ndarray, "H W 3"],
    fov: float,
    valid: Bool[np.ndarray, "H W"] | None = None,
    regions: Int[np.ndarray, "H W"] | None = None,
    reach: float = REACH,
) -> Float[np.ndarray, "H W"]:
    """1/z that agrees with the normals where they tell more, see above; unchanged where it is not valid.

    Args:
      inverse_depth: 1/z > 0 of any scale, which comes out the same.
      normal: unit normals, x right, y up, z towards the camera.
      fov: field of view of the image's width, in degrees.
      valid: pixels that count; all if None.
      regions: numbers of regions, between which there is an edge that nothing is continued across; None: there is one
        where `inverse_depth` jumps.
      reach: share of the width above which shapes follow the depth.
    """
    there = np.ones(inverse_depth.shape, bool) if valid is None else valid
    if not there.any():
        return inverse_depth
    known = np.flatnonzero(there)
    prior = -np.log(np.asarray(inverse_depth, np.float64).ravel()[known])
    place = np.zeros(there.size, int)
    place[known] = np.arange(len(known))
    s = sides(normal, fov, there)
    if regions is None:
        s = s.kept(np.abs(prior[place[s.there]] - prior[place[s.here]] - s.rise) < JUMP)
    else:
        s = s.kept(regions.ravel()[s.here] == regions.ravel()[s.there])
    rows = np.arange(len(s.here))
    columns = np.concatenate([place[s.there], place[s.here]])
    values = np.concatenate([s.weight, -s.weight])
    matrix = sparse.csr_matrix((values, (np.tile(rows, 2), columns)), (len(rows), len(known)))
    # Unknown is the change of w, so that units of depth do not matter to the last digit.
    target, focal = s.weight * s.rise - matrix @ prior, there.shape[1] / 2 / np.tan(np.radians(fov / 2))
    pull = (focal / (reach * there.shape[1])) ** 2
    change, energy = np.zeros(len(known)), np.inf
    for _ in range(_ROUNDS):
        residual = matrix @ change - target
        share = _shares(residual, s, there.size)
        now = float((share * residual**2).sum() + pull * (change**2).sum())
        if abs(energy - now) < _DONE * now:
            break
        energy = now
        normals = (matrix.T @ sparse.diags(share) @ matrix + pull * sparse.identity(len(known))).tocsr()
        right = matrix.T @ (share * target)
        scale = sparse.diags(1 / normals.diagonal())
        change, _ = linalg.cg(normals, right, change, rtol=1e-4, maxiter=1000, M=scale)
    out = np.array(inverse_depth, np.float64)
    out.flat[known] *= np.exp(-change)
    return out


def _shares(residual: np.ndarray, s: Sides, count: int) -> np.ndarray:
    """Weight of each pair: that of both sides of a pixel, left and right or up and down, is one; see above.

    A side that is not there has no residual, so that a pair whose other side is missing can be left out too.
    """
    squares = np.zeros((4, count))
    squares[s.side, s.here] = residual**2
    return expit(_K * (squares[s.side ^ 1, s.here] - squares[s.side, s.here]))
