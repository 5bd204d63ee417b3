"""How different samples are: against numbers that are known."""

import numpy as np
import pytest

from mmgen_jax.metrics import classifier, diversity
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE

FACTS = Facts(PALETTE)


def test_distances_are_means_over_pairs_and_groups_count_alike():
    depth = np.array([0.0, 0.2, 0.4, 0.1, 0.5], np.float32)[:, None, None] * np.ones((5, 2, 2), np.float32)
    normal = np.zeros((5, 2, 2, 3), np.float32)
    normal[..., 2] = 1
    normal[4] = (0, 1, 0)
    groups = [np.array([0, 1, 2]), np.array([3, 4]), np.array([0])]  # pairs apart by .2, .4, .2, and by .4
    found = diversity.of_values({"depth": depth, "normal": normal}, groups, FACTS)
    assert found["depth"] == pytest.approx((0.8 / 3 + 0.4) / 2)
    assert found["normal"] == pytest.approx(90 / 2, abs=0.1)
    features = np.array([[0, 0], [3, 4], [0, 0], [0, 0], [0, 1]])
    assert diversity.of_features(features, groups) == pytest.approx((10 / 3 + 1) / 2)
    same = {"rgb": np.full((4, 2, 2, 3), 7, np.uint8), "mask": np.ones((4, 2, 2), np.int32)}
    assert diversity.of_values(same, [np.arange(4)], FACTS) == {"rgb": 0, "mask": 0}
    same["rgb"][0] = 58
    assert diversity.of_values(same, [np.arange(4)], FACTS)["rgb"] == pytest.approx(0.2 / 2)


def test_there_must_be_a_pair():
    with pytest.raises(ValueError, match="groups have no pair: one of them must have at least two samples"):
        diversity.pairs([np.array([0]), np.array([1])])


def test_features_are_what_the_classifier_judges_by():
    judge = classifier.load()
    rgb = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    features, head = judge.features(rgb), judge.params["head"]
    logits = features @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    shares = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), judge.predict(rgb), rtol=1e-3, atol=1e-5)
    assert judge.features(rgb[:0]).shape == (0, features.shape[1])
