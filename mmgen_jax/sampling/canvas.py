"""Whole images of any size and shape: what is given is fitted to a canvas, and what was made there to the image."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.files import Source
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.modalities.upsampling import Upsampler
from mmgen_jax.models.architectures import Architecture
from mmgen_jax.sampling.draws import Draws
from mmgen_jax.system.errors import UsageError

Values = dict[str, np.ndarray]


def size(height: int, width: int, scale: float, architecture: Architecture) -> tuple[int, int]:
    """Height and width of the canvas of an image: its shorter side is `scale` times the model's image size.

    Sides are multiples of the autoencoder's factor, so the shape may differ from the image's by half of one.
    """
    unit, least = architecture.autoencoder.factor, architecture.image_size
    enlarged = scale * least / min(height, width)
    sides = [max(least, round(side * enlarged / unit) * unit) for side in (height, width)]
    return sides[0], sides[1]


def fitted(given: Mapping[str, np.ndarray], scale: float, architecture: Architecture) -> Values:
    """What is given at its own size, values [1 or n, H, W(, 3)], at that of the canvas.

    Raises UsageError if nothing is given, or modalities have different sizes.
    """
    sizes = {m: x.shape[1:3] for m, x in given.items()}
    if not sizes:
        raise UsageError(f"whole is {scale:g}, but nothing is given whose size could be that of what is made")
    (first, (height, width)), *others = sizes.items()
    for m, other in others:
        if other != (height, width):
            found = f"given {m} has {other[1]}x{other[0]} pixels, given {first} has {width}x{height}"
            raise UsageError(f"{found}; with whole = {scale:g} they must have the same size")
    frame = size(height, width, scale, architecture)
    return {m: MODALITIES[m].from_given(x, frame, architecture.facts, Source(f"given {m}")) for m, x in given.items()}


def restored(made: Draws, given: Mapping[str, np.ndarray], facts: Facts) -> Draws:
    """What was made on a canvas at the size of what is given, with its edges: those of rgb if that is given.

    All draws stay as large as they were made.
    """
    first, photo = next(iter(given.items()))
    guides = MODALITIES[first].picture(photo, facts)
    values, uncertainty = {}, {}
    for m, value in made.values.items():
        to = [Upsampler(guides[min(i, len(guides) - 1)], *value.shape[1:3]) for i in range(len(value))]
        pairs = list(zip(value, to, strict=True))
        values[m] = np.stack([MODALITIES[m].enlarged(x, up, facts) for x, up in pairs])
        if m in made.uncertainty:
            pairs = list(zip(made.uncertainty[m], to, strict=True))
            uncertainty[m] = np.stack([up.mean(x[..., None])[..., 0] for x, up in pairs])
    return Draws(values, uncertainty, made.draws)
