"""Scores predictions of all modalities against a reference. How a modality is scored is said in its own file."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import object_pixels
from mmgen_jax.modalities.measure import Averages, Values, known
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.system.errors import NotFinite


def summary(prediction: Values, truth: Values, facts: Facts, present: Values | None = None) -> dict[str, float]:
    """Scores of every modality, as `averages` takes and computes them."""
    return {key: average.value for key, average in averages(prediction, truth, facts, present).items()}


def averages(prediction: Values, truth: Values, facts: Facts, present: Values | None = None) -> Averages:
    """Scores of every modality, averaged over images; those of several batches can be added.

    Pixels where the truth is NaN are left out, and an image without pixels to compare counts in no average.

    Args:
      prediction: values (see `modalities.modality`) of some modalities, [N, H, W] or [N, H, W, 3].
      truth: values of at least the same modalities, NaN where it is not known; its mask tells which pixels are objects.
      facts: names of the region ids, and the depth range if it is known. Without a depth range, depth/l1 replaces
        all other scores of depth.
      present: modality -> bool [N], which images have a truth; None means all.

    Returns:
      flat dict with depth/absrel, depth/objects/absrel, normal/mean, normal/objects/mean, mask/miou, mask/iou/NAME,
      rgb/psnr in dB, ...

    Raises:
      NotFinite: a prediction has NaN or infinity, which no score can count.
      ValueError: shapes that do not fit.
    """
    ones = np.ones(len(next(iter(truth.values()))), bool)
    present = {m: ones if present is None else np.asarray(present.get(m, ones), bool) for m in truth}
    for m, there in present.items():
        if there.shape != ones.shape:
            raise ValueError(f"present has shape {there.shape} of {m}: must be {ones.shape}")
    objects = object_pixels(truth["mask"], facts.regions) if "mask" in truth else None
    if objects is not None:
        objects = objects & present["mask"][:, None, None]
    scores: Averages = {}
    for m in (m for m in prediction if m in MODALITIES):
        if prediction[m].shape != truth[m].shape:
            raise ValueError(
                f"predicted {m} has shape {prediction[m].shape}: must be that of the truth, {truth[m].shape}"
            )
        bad = np.flatnonzero(~np.isfinite(prediction[m]).all(tuple(range(1, prediction[m].ndim))))
        if bad.size:
            raise NotFinite(
                f"the predicted {m} is NaN or infinite in {bad.size} images, the first of which is {bad[0]}"
            )
        everywhere = known(truth[m]) & present[m][:, None, None]
        areas = {"": everywhere} if objects is None else {"": everywhere, "objects/": objects & everywhere}
        found = MODALITIES[m].score(prediction[m], truth[m], areas, facts)
        scores |= {f"{m}/{key}": value for key, value in found.items()}
    return scores


def headlines(names: Collection[str], prefix: str = "") -> list[str]:
    """Of the names of scores the one that stands for each modality: the first of its headlines that there is."""
    listed = [[f"{prefix}{m}/{key}" for key in modality.headlines] for m, modality in MODALITIES.items()]
    return [next(name for name in own if name in names) for own in listed if not set(own).isdisjoint(names)]


def is_detail(name: str) -> bool:
    """Whether a score of a modality is one that tables in a terminal leave out."""
    m, *rest = name.split("/")
    return m in MODALITIES and f"/{'/'.join(rest)}".endswith(tuple(f"/{end}" for end in MODALITIES[m].details))


def line(scores: Mapping[str, float]) -> str:
    """All headline scores that there are, in one line."""
    names = [f"{m}/{key}" for m, modality in MODALITIES.items() for key in modality.headlines]
    return "  ".join(f"{name} {scores[name]:.4f}" for name in names if name in scores)


def headline(m: str, prediction: np.ndarray, truth: np.ndarray, facts: Facts) -> float:
    """The score that stands for a modality (see `headlines`), the mean over images; see `summary`."""
    scores = summary({m: prediction}, {m: truth}, facts)
    return scores[headlines(scores)[0]]
