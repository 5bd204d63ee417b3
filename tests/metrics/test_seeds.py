"""Tests means and deviations over seeds."""

import math

import pytest

from mmgen_jax.metrics import report
from mmgen_jax.metrics.seeds import summarised


def columns(value, **others):
    return {"model": {"depth/l1": value, **others}}


def test_scores_of_one_seed_stay_as_they_are():
    found = columns(0.1, x=math.nan)
    scores, spread = summarised([found])
    assert scores is found and spread == {}


def test_deviations_are_those_of_a_sample():
    """Of 1, 2 and 6: the mean is 3, and (4 + 1 + 9) / 2 = 7 the variance."""
    scores, spread = summarised([columns(1.0), columns(2.0), columns(6.0)])
    assert scores == columns(3.0) and spread == columns(pytest.approx(math.sqrt(7)))
    text = report.table(scores, spread)
    assert text.splitlines()[1].split() == ["depth/l1", "3.0000", "+-", "2.6458"]


def test_seeds_without_a_number_count_nowhere():
    scores, spread = summarised([columns(1.0, x=2.0, y=math.nan), columns(1.0, x=math.nan, y=math.nan)])
    model, deviation = scores["model"], spread["model"]
    assert (model["depth/l1"], model["x"], deviation["depth/l1"]) == (1, 2, 0)
    assert math.isnan(model["y"]) and math.isnan(deviation["x"]) and math.isnan(deviation["y"])
