"""Errors that come in parts give the scores of all of them, which numpy computes as well."""

import numpy as np
import pytest

from mmgen_jax.metrics.normal_scores import Errors
from mmgen_jax.modalities.measure import ANGLES


@pytest.mark.parametrize("sizes", [(1,), (5, 1, 7), (1000, 3000)])
def test_scores_are_those_of_all_errors_together(sizes):
    rng = np.random.default_rng(0)
    parts = [rng.gamma(2.0, 12.0, n).clip(0, 180) for n in sizes]
    total = Errors.of(parts[0])
    for part in parts[1:]:
        total = total + Errors.of(part)
    degrees, found = np.concatenate(parts), total.scores()
    assert total.count == len(degrees) and found["mean"] == pytest.approx(degrees.mean())
    assert found["rmse"] == pytest.approx(np.sqrt((degrees**2).mean()))
    lower, upper = (np.quantile(degrees, 0.5, method=how) for how in ("lower", "higher"))
    assert lower - 0.01 <= found["median"] <= upper + 0.01
    for limit in ANGLES:
        assert found[f"under_{limit:g}"] == pytest.approx((degrees < limit).mean())


def test_the_ends_of_the_scale_count():
    found = Errors.of(np.array([0.0, 180.0, 180.0])).scores()
    assert found["median"] == pytest.approx(180, abs=0.01) and found["under_5"] == pytest.approx(1 / 3)
