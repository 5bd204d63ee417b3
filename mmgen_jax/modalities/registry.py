"""The one table of modalities: order, channels, storage, loss weight, image <-> array, colours.

Three forms of one image occur, and this file is the only place that turns one into another:

* **pixels**: as stored and as batches carry them, unsigned integers ``[..., H, W, C]``
  (rgb, normal and mask uint8 with three channels, depth uint16 with one);
* **array**: what autoencoders see, float32 in [-1, 1] with the same shape;
* **value**: what a user gets: rgb uint8 ``[..., H, W, 3]``, depth float in [0, 1] ``[..., H, W]``
  (1 = nearest), normal float unit vectors ``[..., H, W, 3]``, mask int region ids ``[..., H, W]``
  or, where the palette is empty because regions have any colours, uint8 colours ``[..., H, W, 3]``.

A fifth modality is one more row of `MODALITIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Tetrahedron corners of the colour cube: all pairs are equally far apart and no colour lies on the
# line between two others, so that an average of two regions never decodes as a third one.
PALETTE = np.array([[0, 0, 0], [0, 255, 255], [255, 255, 0], [255, 0, 255]], np.uint8)
REGIONS = ("background", "ground", "object", "distractor")


def to_array(pixels):
    """Stored pixels (uint8 or uint16) to float32 in [-1, 1]; works on NumPy and JAX arrays."""
    half = np.iinfo(pixels.dtype).max / 2
    return pixels.astype(np.float32) / np.float32(half) - np.float32(1)


def to_pixels(array: np.ndarray, dtype) -> np.ndarray:
    """Float array in [-1, 1] to stored pixels, rounded and clipped."""
    top = np.iinfo(dtype).max
    return np.clip(np.rint((np.asarray(array, np.float64) + 1) * (top / 2)), 0, top).astype(dtype)


def _mirror(pixels: np.ndarray) -> np.ndarray:
    return pixels[..., :, ::-1, :]


def _mirror_normal(pixels: np.ndarray) -> np.ndarray:
    """Mirroring a surface turns the x component of its normal around."""
    flipped = pixels[..., :, ::-1, :].copy()
    flipped[..., 0] = np.iinfo(pixels.dtype).max - flipped[..., 0]
    return flipped


def nearest_color(colors: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Region ids int32 [...] of colours [..., 3] on the 0..255 scale: the nearest palette row."""
    colors = np.asarray(colors, np.float32)
    distance = ((colors[..., None, :] - palette.astype(np.float32)) ** 2).sum(-1)
    return distance.argmin(-1).astype(np.int32)


def _rgb_value(array, palette):
    return to_pixels(array, np.uint8)


def _depth_value(array, palette):
    return np.clip((np.asarray(array, np.float32)[..., 0] + 1) / 2, 0, 1)


def _normal_value(array, palette):
    array = np.asarray(array, np.float32)
    return array / np.maximum(np.linalg.norm(array, axis=-1, keepdims=True), 1e-6)


def _mask_value(array, palette):
    if not len(palette):
        return to_pixels(array, np.uint8)
    return nearest_color((np.asarray(array, np.float32) + 1) * 127.5, palette)


def _rgb_array(value, palette):
    return to_array(np.asarray(value))


def _depth_array(value, palette):
    return (np.asarray(value, np.float32) * 2 - 1)[..., None]


def _normal_array(value, palette):
    return np.asarray(value, np.float32)


def _mask_array(value, palette):
    return to_array(palette[value] if len(palette) else np.asarray(value))


def _rgb_picture(value, palette):
    return value


def _depth_picture(value, palette):
    return turbo(value)


def _normal_picture(value, palette):
    return to_pixels(value, np.uint8)


def _mask_picture(value, palette):
    return palette[value] if len(palette) else value


def _rgb_files(value, palette):
    return {"rgb.png": value}


def _depth_files(value, palette):
    return {"depth.png": to_pixels(2 * value.astype(np.float64) - 1, np.uint16)}


def _normal_files(value, palette):
    return {"normal.png": to_pixels(value, np.uint8), "normal.npy": value}  # the second is exact


def _mask_files(value, palette):
    ids = {"mask_ids.png": value.astype(np.uint8)} if len(palette) else {}
    return {"mask.png": _mask_picture(value, palette)} | ids


def _rgb_error(value, truth, palette):
    """1 = a quarter of the range."""
    return np.abs(value.astype(np.float32) - truth.astype(np.float32)).mean(-1) / 255 / 0.25


def _depth_error(value, truth, palette):
    """1 = a quarter of the range."""
    return np.abs(value - truth) / 0.25


def _normal_error(value, truth, palette):
    """1 = 45 degrees."""
    return np.degrees(np.arccos(np.clip((value * truth).sum(-1), -1, 1))) / 45


def _mask_error(value, truth, palette):
    """1 = another region."""
    wrong = value != truth
    return (wrong if len(palette) else wrong.any(-1)).astype(np.float32)


@dataclass(frozen=True)
class Modality:
    """One row of the table.

    Attributes:
      name: key of the modality in every dict.
      channels: channels of its pixels.
      dtype: integer type of its stored pixels.
      loss_weight: weight of its velocity loss in the published recipe.
      mirror: horizontal flip of pixels ``[..., H, W, C]``.
      value: (array in [-1, 1], palette) -> what a user gets.
      array: (what a user gives, palette) -> array in [-1, 1]; the inverse of `value`.
      picture: (value, palette) -> uint8 ``[..., H, W, 3]`` to look at.
      files: (value of one sample, palette) -> file name, .png or .npy -> pixels or numbers to save in it.
      error: (value, true value, palette) -> error ``[..., H, W]`` in pictures of errors; 0 = none, 1 and more = white.
    """

    name: str
    channels: int
    dtype: type
    loss_weight: float
    mirror: Callable[[np.ndarray], np.ndarray]
    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    array: Callable[[np.ndarray, np.ndarray], np.ndarray]
    picture: Callable[[np.ndarray, np.ndarray], np.ndarray]
    files: Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]
    error: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


# fmt: off
MODALITIES: dict[str, Modality] = {
    m.name: m
    for m in (
        Modality("rgb", 3, np.uint8, 1.0, _mirror,
                 _rgb_value, _rgb_array, _rgb_picture, _rgb_files, _rgb_error),
        Modality("depth", 1, np.uint16, 0.2, _mirror,
                 _depth_value, _depth_array, _depth_picture, _depth_files, _depth_error),
        Modality("normal", 3, np.uint8, 0.1, _mirror_normal,
                 _normal_value, _normal_array, _normal_picture, _normal_files, _normal_error),
        Modality("mask", 3, np.uint8, 0.1, _mirror,
                 _mask_value, _mask_array, _mask_picture, _mask_files, _mask_error),
    )
}
# fmt: on
NAMES = tuple(MODALITIES)


def turbo(value: np.ndarray) -> np.ndarray:
    """Colour map for depth: [0, 1] to uint8 RGB, by the published degree-5 fit of Google's Turbo."""
    x = np.clip(np.asarray(value, np.float64), 0, 1)
    powers = np.stack([x**k for k in range(6)], -1)
    fit = np.array(
        [
            [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
            [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
            [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
        ]
    )
    return np.clip(np.rint(255 * (powers @ fit.T)), 0, 255).astype(np.uint8)
