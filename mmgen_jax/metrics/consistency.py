"""Measures whether the modalities of one sample describe the same scene, by NumPy functions of values.

There are three checks. Normals are compared with those that follow from depth by geometry, mask boundaries with edges
in the geometry and in rgb, and all modalities with what the model predicts from the sample's rgb (`dense.summary`).
A model can agree with itself and still be wrong, so none of these numbers means much alone. Compare each with the same
number on real scenes, which shows what is possible, and on `shuffled` modalities, which shows what chance gives.
"""

from __future__ import annotations

import numpy as np

from mmgen_jax.metrics import dense
from mmgen_jax.modalities.borders import boundary_scores, dilated, marked, region_boundaries
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.geometry import Camera, angle, normals_from_depth, to_inverse_depth
from mmgen_jax.modalities.grouping import coloured, flattened, numbered
from mmgen_jax.modalities.measure import Averages, Values, known, normal_errors, over_known
from mmgen_jax.modalities.registry import MODALITIES

SMOOTH = 0.05  # depth counts as smooth up to this relative second difference of 1/z
JUMP = 0.10  # neighbours with this relative difference of 1/z or more have an edge between them
BEND = 20.0  # so have neighbours whose normals differ by this many degrees
CONTRAST = 20.0  # and, in rgb, neighbours with this root mean square difference of colours (0 to 255)


def smooth_pixels(inverse_depth: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Marks inner pixels where 1/z is almost linear along rows and columns, and with one region in the 3 x 3 around.

    Takes 1/z [N, H, W] and region ids [N, H, W] or None; returns bool [N, H, W].
    """
    q = np.asarray(inverse_depth, np.float64)
    smooth = np.zeros(q.shape, bool)
    inner = q[:, 1:-1, 1:-1]
    rows = np.abs(q[:, 2:, 1:-1] + q[:, :-2, 1:-1] - 2 * inner)
    columns = np.abs(q[:, 1:-1, 2:] + q[:, 1:-1, :-2] - 2 * inner)
    smooth[:, 1:-1, 1:-1] = np.maximum(rows, columns) < SMOOTH * inner
    if mask is not None:
        smooth &= ~dilated(region_boundaries(mask))
    return smooth


def depth_normal_angle(
    depth: np.ndarray, normal: np.ndarray, camera: Camera, mask: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Angle between normals and the normals that follow from depth, on `smooth_pixels`.

    Args:
      depth: relative inverse depth [N, H, W] in [0, 1], at the fixed scale of `camera.depth_range`.
      normal: unit vectors [N, H, W, 3].
      camera: the camera of the data set.
      mask: region ids [N, H, W], or None.

    Returns:
      angle: mean per image in degrees [N], NaN where no pixel is smooth; pixels: share of pixels compared [N].

    Raises:
      ValueError: images smaller than 3 x 3, which have no inner pixels.
    """
    if min(depth.shape[1:]) < 3:
        raise ValueError(f"depth is {depth.shape[2]}x{depth.shape[1]} pixels: must be at least 3x3")
    inverse = to_inverse_depth(depth, camera.depth_range)
    where = smooth_pixels(inverse, mask) & known(normal)
    derived = normals_from_depth(inverse, camera.fov)
    return {
        "angle": normal_errors(derived, np.asarray(normal, np.float64), where)["mean"],
        "pixels": where.mean((1, 2)),
    }


def geometry_edges(inverse_depth: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Marks pixels [N, H, W] at a relative jump of 1/z [N, H, W] or a bend of the normals [N, H, W, 3]."""

    def edge(a: tuple, b: tuple) -> np.ndarray:
        jump = np.abs(inverse_depth[a] - inverse_depth[b]) > JUMP / 2 * (inverse_depth[a] + inverse_depth[b])
        return jump | (angle(normal[a], normal[b]) > BEND)

    every, after, before = slice(None), slice(1, None), slice(None, -1)
    return marked(edge((every, every, after), (every, every, before)), edge((every, after), (every, before)))


def rgb_edges(rgb: np.ndarray) -> np.ndarray:
    """Marks pixels of rgb uint8 [N, H, W, 3] whose colour differs much from that of the pixel to the right or below."""
    rgb = np.asarray(rgb, np.float32)

    def edge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a - b) ** 2).mean(-1)) > CONTRAST

    return marked(edge(rgb[:, :, 1:], rgb[:, :, :-1]), edge(rgb[:, 1:], rgb[:, :-1]))


def summary(values: Values, from_rgb: Values | None, facts: Facts) -> dict[str, float]:
    """All checks that are possible with these modalities, as `averages` takes and computes them."""
    return {key: average.value for key, average in averages(values, from_rgb, facts).items()}


def averages(values: Values, from_rgb: Values | None, facts: Facts) -> Averages:
    """All checks that are possible with these modalities, averaged over samples; those of several batches can be added.

    Args:
      values: one entry per modality, as `dense.averages` takes them for the truth.
      from_rgb: what the model predicts from the rgb of the same samples, or None.
      facts: what the data set says of itself: names of the region ids, camera.

    Returns:
      flat dict with depth-normal/angle (degrees) and depth-normal/pixels; boundary/geometry/f and boundary/rgb/f, and
      likewise recall and precision; rgb-rest/..., which are the scores of `dense.summary` with the sample as the truth.
      Geometry has edges inside a region (those of a box, for instance), so precision is below 1 on real scenes too.
    """
    scores: Averages = {}
    camera = facts.camera
    mask = values.get("mask")
    if mask is not None and coloured(mask):  # those of samples are as a network paints them
        values = {**values, "mask": flattened(mask)}
        mask = numbered(values["mask"])
    if camera is not None and {"depth", "normal"} <= set(values):
        result = depth_normal_angle(values["depth"], values["normal"], camera, mask)
        scores |= {f"depth-normal/{key}": over_known(value) for key, value in result.items()}
    edges = {}
    if camera is not None and {"depth", "normal"} <= set(values):
        inverse = to_inverse_depth(values["depth"], camera.depth_range)
        edges["geometry"] = geometry_edges(inverse, values["normal"])
    if "rgb" in values:
        edges["rgb"] = rgb_edges(values["rgb"])
    if mask is not None:
        boundaries = region_boundaries(mask)
        for name, marks in edges.items():
            result = boundary_scores(boundaries, marks)
            scores |= {f"boundary/{name}/{key}": over_known(value) for key, value in result.items()}
    if from_rgb:
        rest = dense.averages(from_rgb, values, facts)
        short = [f"{m}/{key}" for m in from_rgb for key in MODALITIES[m].headlines]
        scores |= {f"rgb-rest/{key}": rest[key] for key in short if key in rest}
    return scores


def shuffled(values: Values, from_rgb: Values | None) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """Takes every modality from another sample: entry m of `values` is rolled by m + 1 samples, `from_rgb` as rgb.

    Raises:
      ValueError: there are no more samples than modalities.
    """
    count = len(next(iter(values.values())))
    if count <= len(values):
        raise ValueError(f"{count} samples of {len(values)} modalities: shuffling needs at least {len(values) + 1}")
    offset = {name: m + 1 for m, name in enumerate(values)}
    rolled = {name: np.roll(value, offset[name], axis=0) for name, value in values.items()}
    along = {name: np.roll(value, offset["rgb"], axis=0) for name, value in (from_rgb or {}).items()}
    return rolled, along or None
