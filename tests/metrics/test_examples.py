"""Tests what a report shows of an evaluation, on values that are known by hand."""

import html.parser
import re

import numpy as np
import pytest

from mmgen_jax.metrics.examples import COUNT, Examples
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.show import pictures, scores


def batch(count, error):
    rgb = np.zeros((count, 2, 2, 3), np.uint8)
    truth = np.full((count, 2, 2), 0.5, np.float32)
    return {"rgb": rgb, "depth": truth}, {"depth": truth + np.asarray(error, np.float32)}


def test_mean_errors_are_those_of_all_scenes_and_pictures_those_of_the_first():
    """Depth that is off by 0.05 in four scenes and by 0.2 in four others is off by 0.125 on average, half of white."""
    examples = Examples(Facts())
    for error in (0.05, 0.2):
        stored, made = batch(4, error)
        examples.predicted("rgb -> depth", ("rgb",), made, stored, stored, {m: np.ones(4, bool) for m in stored})
    first, errors = examples.sections("rgb -> depth")
    assert list(first.columns) == ["rgb", "depth truth", "depth", "depth error"] and first.given == ("rgb",)
    assert {len(x) for x in first.columns.values()} == {COUNT} and "0.25 for depth" in first.caption
    np.testing.assert_array_equal(errors.columns["depth error"][0], pictures.heat(np.full((2, 2), 0.5)))
    np.testing.assert_array_equal(first.columns["depth error"][3:5, 0, 0], pictures.heat(np.array([0.2, 0.8])))
    assert examples.pixels("rgb -> depth") == {"depth": 32}


def test_what_has_no_truth_is_grey_and_counts_nowhere():
    examples = Examples(Facts())
    stored, made = batch(3, 0.125)
    truth = stored | {"depth": stored["depth"].copy()}
    truth["depth"][:, 0, 0] = np.nan  # a pixel that no scene knows
    there = {"rgb": np.ones(3, bool), "depth": np.array([True, False, True])}
    examples.predicted("rgb -> depth", ("rgb",), made, stored, truth, there)
    assert examples.pixels("rgb -> depth") == {"depth": 6}
    first, errors = examples.sections("rgb -> depth")
    grey = (np.asarray(errors.columns["depth error"][0]) == pictures.MUTED).all(-1)
    np.testing.assert_array_equal(grey, [[True, False], [False, False]])
    assert (first.columns["depth truth"][1] == pictures.MUTED).all()
    assert (first.columns["depth truth"][0, 0, 0] == pictures.MUTED).all()
    assert examples.sections("depth -> rgb") == examples.samples() == []


def test_samples_are_the_first_ones_of_all_batches():
    examples = Examples(Facts())
    for i in range(3):
        examples.generated({"rgb": np.full((4, 2, 2, 3), i, np.uint8)})
    (shown,) = examples.samples()
    assert shown.columns["rgb"][:, 0, 0, 0].tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("metric", "arrow"),
    [
        ("depth/objects/absrel", "\u2193"),
        ("normal/mean", "\u2193"),
        ("mask/iou/<a>", "\u2191"),
        ("mask/iou/median", "\u2191"),
        ("x/pixels", ""),
    ],
)
def test_tables_and_bars_are_html_whatever_the_names(metric, arrow):
    columns = {"model": {metric: 0.5}, "a<b": {metric: 1.0}, "none": {metric: float("nan")}}
    table = scores.table(columns, {"model": "the model"})
    chart = scores.bars(metric, columns, {}, ("a<b",))
    assert arrow == scores.sense(metric) and "the model" in table and "<td>-</td>" in table
    assert re.findall(r'class="(model|bar)".*?width="([\d.]+)%"', chart) == [("model", "50.00"), ("bar", "100.00")]
    for text in (table, chart):
        open_tags = []
        parser = html.parser.HTMLParser()
        parser.handle_starttag = lambda tag, _, tags=open_tags: tags.append(tag)
        parser.handle_endtag = lambda tag, tags=open_tags: tags.remove(tag)
        parser.handle_startendtag = lambda *_: None
        parser.feed(text)
        assert open_tags == [] and "a<b" not in text and "<a>" not in text
