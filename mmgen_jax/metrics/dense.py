"""Scores predictions of all modalities against a reference. How a modality is scored is said in its own file."""

from __future__ import annotations

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import object_pixels
from mmgen_jax.modalities.measure import Values
from mmgen_jax.modalities.registry import MODALITIES


def summary(prediction: Values, truth: Values, facts: Facts, present: Values | None = None) -> dict[str, float]:
    """Scores of every modality, averaged over images. An image without pixels to compare counts in no average.

    Args:
      prediction: values (see `modalities.modality`) of some modalities, [N, H, W] or [N, H, W, 3].
      truth: values of at least the same modalities; its mask tells which pixels are objects.
      facts: names of the region ids, and the depth range if it is known. Without a depth range, depth/l1 replaces
        depth/absrel and depth/delta1.
      present: modality -> bool [N], which images have a truth; None means all.

    Returns:
      flat dict with depth/absrel, depth/objects/absrel, normal/mean, normal/objects/mean, mask/miou, mask/iou/NAME,
      rgb/psnr in dB, ...
    """
    ones = np.ones(len(next(iter(truth.values()))), bool)
    present = {m: ones if present is None else np.asarray(present.get(m, ones)) for m in truth}
    objects = object_pixels(truth["mask"], facts.regions) if "mask" in truth else None
    if objects is not None:
        objects = objects & present["mask"][:, None, None]
    scores: dict[str, float] = {}
    for m in (m for m in prediction if m in MODALITIES):
        everywhere = np.broadcast_to(present[m][:, None, None], truth[m].shape[:3])
        areas = {"": everywhere} if objects is None else {"": everywhere, "objects/": objects & everywhere}
        found = MODALITIES[m].score(prediction[m], truth[m], areas, facts)
        scores |= {f"{m}/{key}": value for key, value in found.items()}
    return scores
