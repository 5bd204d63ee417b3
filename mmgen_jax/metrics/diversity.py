"""How different samples are that answer one question: the mean distance of all pairs, in pixels and in features.

Mode collapse, or a condition that decides everything, shows as a small number; no number is good or bad by itself, so
it is compared with that of real scenes (Figure 3 of MMGen shows variations as pictures).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import MODALITIES

Groups = Sequence[np.ndarray]  # numbers of the samples that are compared with each other


def pairs(groups: Groups) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the first and the second sample of each pair [P] in a group, and weights [P] that sum to 1.

    Groups count alike, whatever their sizes. Raises ValueError if none has two samples.
    """
    found = [list(itertools.combinations(group, 2)) for group in groups if len(group) > 1]
    if not found:
        raise ValueError("groups have no pair: one of them must have at least two samples")
    both = np.array([pair for group in found for pair in group])
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in found]) / len(found)
    return both[:, 0], both[:, 1], weights


def of_values(values: Mapping[str, np.ndarray], groups: Groups, facts: Facts) -> dict[str, float]:
    """Mean distance of the pairs in each modality, of values [n, H, W(, 3)].

    rgb: mean difference as a share of the range; depth: mean difference of relative inverse depth; normals: mean angle
    in degrees; masks: share of the pixels with another region.
    """
    first, second, weights = pairs(groups)
    found = {}
    for m, value in values.items():
        apart = MODALITIES[m].deviation(value[first], value[second], facts)
        found[m] = float((weights * apart.mean((1, 2))).sum())
    return found


def of_features(features: np.ndarray, groups: Groups) -> float:
    """Mean Euclidean distance of the pairs, of features [n, D]."""
    first, second, weights = pairs(groups)
    return float((weights * np.linalg.norm(features[first] - features[second], axis=1)).sum())
