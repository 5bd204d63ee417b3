"""Tests scores of one modality from others, and the words that ask for them."""

import dataclasses
import re

import numpy as np
import pytest
import tiny_model

from mmgen_jax.metrics import any_to_any
from mmgen_jax.metrics.any_to_any import Task
from mmgen_jax.metrics.runner import Runner
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.system.errors import UsageError

MODEL = ("rgb", "depth", "normal", "mask")


def test_words_are_sets():
    assert any_to_any.parse(["rgb->depth", "depth+mask->rgb"], MODEL) == [
        Task(("rgb",), "depth"),
        Task(("depth", "mask"), "rgb"),
    ]
    assert len(any_to_any.parse(["one->each"], MODEL)) == 12 == len(set(any_to_any.parse(["two->each"], MODEL)))
    assert [str(t) for t in any_to_any.parse(["three -> each", "rgb+depth+normal->mask"], MODEL)] == [
        "rgb+depth+normal -> mask",
        "rgb+depth+mask -> normal",
        "rgb+normal+mask -> depth",
        "depth+normal+mask -> rgb",
    ]
    assert len(any_to_any.parse(["two->rgb"], MODEL)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rgb", "evaluate.tasks has 'rgb'; allowed: what is given -> what is made, as 'rgb->depth'"),
        ("", "evaluate.tasks has ''; allowed"),
        ("sound->rgb", "modality of 'sound->rgb' is 'sound'; allowed: rgb, depth, normal, mask"),
        ("rgb->sound", "modality of 'rgb->sound' is 'sound'; allowed: rgb, depth, normal, mask"),
        ("->rgb", "modality of '->rgb' is ''; allowed"),
        ("rgb->rgb", "evaluate.tasks has 'rgb->rgb', which leaves nothing to make"),
        ("rgb+depth+normal+mask->each", "leaves nothing to make"),
    ],
)
def test_words_that_are_no_task_are_named(text, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        any_to_any.parse([text], MODEL)


@pytest.fixture(scope="module")
def runner():
    architecture, params = tiny_model.build()
    options, sampler = Options("euler", 2, batch=8), Sampler(architecture)
    return Runner(sampler, sampler.place(params), options, options)


def scenes(count):
    pixels = dict(tiny_model.pixels(count))
    return pixels | {"present": np.ones((count, 4), bool), "class_id": np.zeros(count, int)}


def cut(batch, size):
    return [{key: x[i : i + size] for key, x in batch.items()} for i in range(0, len(batch["rgb"]), size)]


def test_scores_are_beside_what_is_possible_and_what_is_blind(runner, monkeypatch):
    """A model that predicts the truth has the scores of the autoencoder's ceiling, or better."""
    batch, facts = scenes(6), runner.sampler.architecture.facts
    tasks = any_to_any.parse(["rgb->depth", "depth+mask->rgb"], MODEL)
    average = {m: np.zeros((1, *x.shape[1:]), np.float32) for m, x in tiny_model.pixels(1).items()}
    (found,) = any_to_any.evaluate(runner, [batch], 6, tasks, facts, average)
    assert list(found["depth/l1"]) == ["round_trip", "mean_image", "rgb -> depth", "rgb -> depth, shuffled"]
    assert list(found["rgb/psnr"]) == ["round_trip", "mean_image", "depth+mask -> rgb", "depth+mask -> rgb, shuffled"]
    assert found["depth/l1"]["round_trip"] < found["depth/l1"]["mean_image"]
    assert any_to_any.headlines(found).keys() == {"depth/l1", "rgb/psnr"}

    def oracle(self, given, wanted, *_, first, progress):
        return {wanted: any_to_any.to_array(batch[wanted])}

    monkeypatch.setattr(Runner, "predict", oracle)
    (perfect,) = any_to_any.evaluate(runner, [batch], 6, tasks, facts)
    assert perfect["depth/l1"]["rgb -> depth"] == pytest.approx(0, abs=1e-6)
    assert perfect["depth/l1"]["rgb -> depth, shuffled"] > 0.01  # the truth of another scene


def test_scores_do_not_depend_on_batches_and_leave_out_what_is_absent(runner):
    batch, facts = scenes(6), runner.sampler.architecture.facts
    batch["present"][4, 0] = batch["present"][5, 1] = False
    tasks = any_to_any.parse(["rgb->depth"], MODEL)
    (whole,) = any_to_any.evaluate(runner, [batch], 6, tasks, facts)
    (parts,) = any_to_any.evaluate(runner, cut(batch, 4), 6, tasks, facts)
    (alone,) = any_to_any.evaluate(runner, cut(batch, 4)[:1], 4, tasks, facts)
    for key in whole:
        assert parts[key] == pytest.approx(whole[key], abs=1e-4)
    key = "depth/l1"
    assert alone[key]["rgb -> depth"] == pytest.approx(whole[key]["rgb -> depth"], abs=1e-4)
    assert alone[key]["round_trip"] != pytest.approx(whole[key]["round_trip"], abs=1e-6)  # scene 4 has depth


def test_predictions_see_nothing_of_what_is_ignored(runner):
    given = {"rgb": any_to_any.to_array(scenes(2)["rgb"])}
    made = runner.predict(given, "depth", 0, "x")
    assert list(made) == ["depth"]
    twice = dataclasses.replace(runner, understanding=dataclasses.replace(runner.understanding, draws=2)).predict(
        given, "depth", 0, "x"
    )
    assert not np.allclose(twice["depth"], made["depth"], atol=1e-4)
