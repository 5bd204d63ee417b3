"""Pictures of samples: labelled sheets, grids and error maps, and their PNG files.

Everything here takes and returns uint8 RGB arrays; `Modality.picture` of the table of modalities makes them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from mmgen_jax.system import files

SHOWN_SIZE = 128  # height in pixels to which small images are enlarged, about
LARGEST = 1024  # pixels of images on sheets and in galleries, each way
SMALL = 64  # images of at most this many pixels, each way, count as small

PAPER = (255, 255, 255)
INK = (38, 42, 51)
MUTED = (150, 155, 165)
GIVEN = (245, 158, 11)  # colour of the frame of given images
GAP = 8
MARGIN = 16
FRAME = 3
FONT_SIZE = 15


def shown_scale(size: int) -> int:
    """Integer factor by which images of `size` pixels are shown: about 128 pixels for small ones, else 1."""
    return max(1, SHOWN_SIZE // size) if size <= SMALL else 1


def reduced(images: np.ndarray) -> np.ndarray:
    """Images [..., H, W, 3] without most rows and columns where they have more than are shown: at most 1024."""
    step = -(-max(images.shape[-3:-1]) // LARGEST)
    return images[..., ::step, ::step, :]


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges images [..., H, W, 3] to [..., scale H, scale W, 3]; each pixel becomes a square."""
    return image.repeat(scale, axis=-3).repeat(scale, axis=-2)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _centred(draw: ImageDraw.ImageDraw, x: float, y: float, text: str, color: tuple, size: int = FONT_SIZE) -> None:
    """Draws `text` centred at x with its middle at height y."""
    font = _font(size)
    left, _, right, _ = draw.textbbox((0, 0), text, font=font)
    _, line_top, _, line_bottom = draw.textbbox((0, 0), "Agp", font=font)  # one baseline for all labels
    draw.text((x - (left + right) / 2, y - (line_top + line_bottom) / 2), text, fill=color, font=font)


def _text_width(text: str, size: int = FONT_SIZE) -> int:
    return math.ceil(_font(size).getlength(text))


def sheet(
    pictures: Mapping[str, np.ndarray],
    given: Sequence[str] = (),
    scale: int | None = None,
    names: Sequence[str] = (),
) -> np.ndarray:
    """Puts pictures side by side, with a row for each sample and a labelled column for each entry.

    Args:
      pictures: label -> uint8 [n, H, W, 3], the same n everywhere.
      given: labels of the columns whose images were given; they are framed.
      scale: integer factor of enlargement; by default images of at most 64 pixels are shown at about 128 pixels.
      names: names of the rows; by default their numbers.

    Returns:
      uint8 [height, width, 3].

    Raises:
      ValueError: there are no pictures, or columns have different lengths.
    """
    counts = {len(images) for images in pictures.values()}
    if len(counts) != 1 or counts == {0}:
        raise ValueError(f"columns have {sorted(counts)} pictures: must be one number of at least 1")
    rows = counts.pop()
    first = next(iter(pictures.values()))
    scale = shown_scale(max(first.shape[1:3])) if scale is None else scale
    columns = {label: enlarge(np.asarray(images, np.uint8), scale) for label, images in pictures.items()}
    titles = {label: f"{label} (given)" if label in given else label for label in columns}
    widths = {label: max(columns[label].shape[2], _text_width(titles[label])) for label in columns}
    row_height = max(images.shape[1] for images in columns.values())
    names = tuple(names) or (tuple(map(str, range(rows))) if rows > 1 else ())
    side = max(_text_width(name, 12) for name in names) + GAP if names else 0
    header = FONT_SIZE + 2 * GAP

    width = 2 * MARGIN + side + sum(widths.values()) + GAP * (len(columns) - 1)
    height = MARGIN + header + rows * row_height + GAP * (rows - 1) + MARGIN
    canvas = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(canvas)
    for row, name in enumerate(names):
        y = MARGIN + header + row * (row_height + GAP) + row_height / 2
        _centred(draw, MARGIN + (side - GAP) / 2, y, name, MUTED, 12)
    x = MARGIN + side
    for label, images in columns.items():
        _centred(draw, x + widths[label] / 2, MARGIN + FONT_SIZE / 2, titles[label], INK)
        left = x + (widths[label] - images.shape[2]) // 2
        for row, image in enumerate(images):
            _paste(canvas, draw, image, left, MARGIN + header + row * (row_height + GAP), label in given)
        x += widths[label] + GAP
    return np.asarray(canvas)


def _paste(canvas: Image.Image, draw: ImageDraw.ImageDraw, image: np.ndarray, x: int, y: int, framed: bool) -> None:
    """Pastes a picture with its upper left corner at (x, y). A frame is drawn around it, in the gap."""
    if framed:
        box = (x - FRAME, y - FRAME, x + image.shape[1] + FRAME - 1, y + image.shape[0] + FRAME - 1)
        draw.rectangle(box, fill=GIVEN)
    canvas.paste(Image.fromarray(image), (x, y))


def grid(images: np.ndarray, scale: int | None = None) -> np.ndarray:
    """Puts images uint8 [n, H, W, 3] in rows, about as many as there are columns; returns one uint8 [H', W', 3]."""
    count, height, width = images.shape[:3]
    scale = shown_scale(max(height, width)) if scale is None else scale
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    big = enlarge(np.asarray(images, np.uint8), scale)
    gap = GAP // 2
    high, wide = big.shape[1] + gap, big.shape[2] + gap
    canvas = np.full((rows * high + gap, columns * wide + gap, 3), PAPER, np.uint8)
    for i, image in enumerate(big):
        y, x = gap + i // columns * high, gap + i % columns * wide
        canvas[y : y + image.shape[0], x : x + image.shape[1]] = image
    return canvas


def heat(value: np.ndarray) -> np.ndarray:
    """Turns errors in [0, 1] into uint8 RGB colours from black (no error) over red and yellow to white; NaN is grey."""
    x = np.asarray(value, np.float32)[..., None]
    colors = np.rint(255 * (3 * np.clip(np.nan_to_num(x), 0, 1) - np.arange(3, dtype=np.float32)))
    return np.where(np.isnan(x), MUTED, np.clip(colors, 0, 255)).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    """Encodes uint8 [H, W, 3], or uint8 or uint16 [H, W] (greyscale with 8 or 16 bits), as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def save_png(path: epath.PathLike, pixels: np.ndarray) -> None:
    """Writes `png(pixels)` to `path`. If that is interrupted, there is no file."""
    files.write(path, png(pixels))
