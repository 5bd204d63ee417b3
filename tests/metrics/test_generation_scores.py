"""Frechet distance, precision, recall and Inception Score against closed forms and against other libraries' numbers."""

from __future__ import annotations

import numpy as np
import pytest
from golden_arrays import FOLDER

from mmgen_jax.metrics import neighbours
from mmgen_jax.metrics.gaussians import Gaussian, Moments, distance
from mmgen_jax.metrics.inception_score import inception_score


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "inception.npz") as stored:
        return dict(stored)


def rotation(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(size, size)))[0]


def test_distance_of_gaussians_with_common_axes(rng):
    """Covariances that commute: |m1 - m2|^2 + sum of (s1 - s2)^2 over the standard deviations along the axes."""
    axes, first, second = rotation(rng, 6), rng.uniform(0, 3, 6), rng.uniform(0, 3, 6)
    first[2] = second[4] = 0  # of too few images
    means = rng.normal(size=(2, 6))
    a, b = (Gaussian(m, (axes * s**2) @ axes.T) for m, s in zip(means, (first, second), strict=True))
    wanted = ((means[0] - means[1]) ** 2).sum() + ((first - second) ** 2).sum()
    assert distance(a, b) == pytest.approx(wanted, rel=1e-12)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=1e-12)
    assert distance(a, a) == pytest.approx(0, abs=1e-12)
    point = Gaussian(means[0], np.zeros((6, 6)))  # all images are the same
    assert distance(point, b) == pytest.approx(((means[0] - means[1]) ** 2).sum() + (second**2).sum(), rel=1e-12)


def test_distance_of_gaussians_without_common_axes():
    """In two dimensions tr (C1 C2)^(1/2) = (tr C1 C2 + 2 (det C1 C2)^(1/2))^(1/2)."""
    a = Gaussian(np.array([1.0, 2.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))
    b = Gaussian(np.array([0.0, 4.0]), np.array([[1.0, -0.7], [-0.7, 3.0]]))
    product = a.covariance @ b.covariance
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    assert distance(a, b) == pytest.approx(1 + 4 + 3 + 4 - 2 * root, rel=1e-12)
    with pytest.raises(ValueError, match="must be equal"):
        distance(a, Gaussian(np.zeros(3), np.eye(3)))


def test_moments_of_parts_add_up_in_any_order(rng):
    """Far from 0, where sums of squares would lose all digits; numbers near 1e6 are known to 1e-10."""
    features = rng.normal(size=(101, 5)) * [1, 2, 3, 1e-3, 5] + 1e6
    whole = Moments.of(features).gaussian()
    np.testing.assert_allclose(whole.covariance, np.cov(features, rowvar=False), rtol=1e-9, atol=1e-9)
    parts = [Moments.of(part) for part in np.split(features, [1, 2, 40, 77])]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        total = parts[order[0]]
        for i in order[1:]:
            total = total + parts[i]
        assert total.count == 101
        np.testing.assert_allclose(total.gaussian().mean, whole.mean, rtol=1e-14)
        np.testing.assert_allclose(total.gaussian().covariance, whole.covariance, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="at least 2"):
        parts[0].gaussian()


def test_distance_is_that_of_other_libraries(golden):
    found = distance(Moments.of(golden["first"]).gaussian(), Moments.of(golden["second"]).gaussian())
    for library in ("torch_fidelity", "pytorch_fid"):
        assert found == pytest.approx(float(golden[f"{library}/fid"]), rel=1e-9)


def test_precision_and_recall_of_hand_placed_points(monkeypatch):
    """Points 0, 1, ... 9 on a line reach 3 to the third neighbour at the ends, 2 beside, and 2 inside."""
    line = np.array([[float(i), 0.0] for i in range(10)])
    near, far = np.array([[4.5, 1.9]]), np.array([[4.5, 2.1]])  # 1.96 and 2.16 from the nearest points
    ends = np.array([[12.0, 0.0], [12.1, 0.0]])  # 3 from the last one, which reaches 3, and 3.1
    samples = np.concatenate([near, far, ends])
    precision, recall = neighbours.precision_recall(samples, line)
    assert precision == pytest.approx(2 / 4)
    # Samples reach 7.73 (near: to 12.1, its third), 7.79 (far), 7.79 and 7.89 (ends, to near and far).
    reach = [np.sort(np.linalg.norm(samples - s, axis=1))[3] for s in samples]
    inside = [any(np.linalg.norm(samples[i] - p) <= reach[i] for i in range(4)) for p in line]
    assert recall == pytest.approx(np.mean(inside)) == pytest.approx(1.0)
    monkeypatch.setattr(neighbours, "_ROWS", 3)  # the same in parts
    assert neighbours.precision_recall(samples, line) == (precision, recall)
    apart = neighbours.precision_recall(line + 100, line)
    assert apart == (0.0, 0.0)
    assert neighbours.precision_recall(line, line) == (1.0, 1.0)


def test_samples_of_one_mode_have_precision_without_recall():
    """A lattice of real images, and samples that crowd around one of its points."""
    lattice = np.array([[i, j] for i in range(6) for j in range(6)], float)
    crowd = np.array([[2.0, 2.0]]) + np.array([[0, 0], [0.1, 0], [0, 0.1], [0.1, 0.1], [-0.1, 0]])
    precision, recall = neighbours.precision_recall(crowd, lattice)
    assert precision == 1.0
    assert recall == pytest.approx(1 / 36)
    assert neighbours.precision_recall(lattice, crowd) == (recall, precision)


def test_precision_and_recall_are_those_of_torch_fidelity(golden):
    found = neighbours.precision_recall(golden["first"], golden["second"])
    np.testing.assert_allclose(found, golden["torch_fidelity/precision_recall"], rtol=1e-6)
    with pytest.raises(ValueError, match="at least 4"):
        neighbours.precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))


def test_inception_score_of_known_probabilities():
    sure = np.eye(7)[np.arange(21) % 7]
    assert inception_score(sure) == pytest.approx(7)
    assert inception_score(np.full((5, 7), 1 / 7)) == pytest.approx(1)
    assert inception_score(np.eye(7)[np.zeros(9, int)]) == pytest.approx(1)  # one class alone
    # Half the images are of class 0; the others are 0.5 each of the classes 0 and 1: p = (0.75, 0.25).
    half = np.array([[1.0, 0.0], [0.5, 0.5]])
    wanted = np.exp((np.log(1 / 0.75) + 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)) / 2)
    assert inception_score(half) == pytest.approx(wanted, rel=1e-12)
    # Splits: two of one class each score 1, though all together have two classes.
    assert inception_score(np.eye(2)[[0, 0, 1, 1]], split=2) == pytest.approx(1)
    assert inception_score(np.eye(2)[[0, 0, 1, 1]], split=3) == pytest.approx((np.exp(-np.log(4 / 27) / 3) + 1) / 2)
    with pytest.raises(ValueError, match="at least 1"):
        inception_score(np.zeros((0, 3)))


def test_inception_score_is_that_of_torch_fidelity(golden):
    numbers = np.exp(golden["logits"])
    probabilities = numbers / numbers.sum(1, keepdims=True)
    for wanted, split in zip(golden["torch_fidelity/isc"], (60, 15), strict=True):
        assert inception_score(probabilities, split) == pytest.approx(float(wanted), rel=1e-9)
