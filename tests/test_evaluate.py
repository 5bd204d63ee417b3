"""Tests the evaluate command on a tiny model, and its parts when data are missing."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
import tiny_model

from mmgen_jax import evaluate
from mmgen_jax.checkpoints import model_folders, weights
from mmgen_jax.data import held_out, pipeline
from mmgen_jax.metrics import any_to_any, consistency, dense, report
from mmgen_jax.metrics.agreement import Agreement
from mmgen_jax.metrics.runner import Runner, to_values
from mmgen_jax.modalities import holes
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE, REGIONS
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import class_table


@pytest.fixture(scope="module")
def model():
    return tiny_model.build()


@pytest.fixture
def config(model_config):
    model_config.sample.guidance = 1.5
    model_config.evaluate.update({"n": 12, "samples": 10, "batch": 8, "steps": 2, "draws": 2, "temperature": 1.0})
    return model_config


@pytest.fixture
def batch(tiles_dir):
    return pipeline.load(tiles_dir, "test", ("rgb", "depth", "normal", "mask"), tiny_model.SIZE, range(12))


@pytest.fixture(scope="module")
def runner(model):
    architecture, params = model
    options = Options("euler", 2, batch=8)
    return Runner(Sampler(architecture), params, options, options)


def test_command_end_to_end(config, model_dir, tmp_path, capsys):
    out = tmp_path / "sub" / "m.json"
    config.evaluate.tasks = ("rgb->depth", "mask->each")
    evaluate.run(config, str(model_dir), str(out))
    report = json.loads(out.read_text())
    assert (report["scenes"], report["samples"]) == (12, 10)
    assert set(report["understanding"]) == {"model", "shuffled", "round_trip", "mean_image"}
    assert set(report["generation"]) == {"generated", "real"}
    assert set(report["consistency"]) == {"generated", "generated_shuffled", "real", "real_shuffled"}
    # A random model knows nothing; six numbers a patch know a lot.
    model, ceiling = report["understanding"]["model"], report["understanding"]["round_trip"]
    assert ceiling["normal/mean"] < model["normal/mean"] and ceiling["mask/miou"] > model["mask/miou"]
    assert ceiling["depth/absrel"] < 0.05 and ceiling["rgb/psnr"] > 20
    assert report["generation"]["real"]["accuracy"] > 0.5  # 16 x 16 images, enlarged
    assert report["consistency"]["real"]["depth-normal/angle"] < 2
    assert report["scored"] == {"rgb": 12, "depth": 12, "normal": 12, "mask": 12}
    tasks = {"rgb -> depth", "mask -> depth"}
    named = {"round_trip", "mean_image", *tasks, *(f"{task}, shuffled" for task in tasks)}
    assert set(report["any to any"]["depth/absrel"]) == named
    page = (tmp_path / "sub" / "m.html").read_text()
    assert report["protocol"]["pixels compared"] == {m: 12 * tiny_model.SIZE**2 for m in ("depth", "normal", "mask")}
    assert report["protocol"]["tasks, pixels compared"] == {
        f"{given} -> {m}": 12 * tiny_model.SIZE**2
        for given, m in (("rgb", "depth"), ("mask", "rgb"), ("mask", "depth"), ("mask", "normal"))
    }
    assert report["protocol"]["draws"] == "2 of each scene, combined" and report["protocol"]["seed"] == 0
    assert report["protocol"]["model"] == str(model_dir)  # which has no checkpoints
    assert "x right, y up, z towards it" in report["protocol"]["normals"]
    assert report["protocol"]["predictions"].endswith("temperature 1, without a class")
    for text in (*report["protocol"], "mask -&gt; depth: the first 6 scenes", "rgb -&gt; all others: where errors are"):
        assert text in page, text
    assert f">{model['normal/mean']:.4f}<" in page and "The first 6 samples" in page
    # Nothing is asked for: all that an attribute refers to is in the file.
    assert set(re.findall(r'(?:src|href)="([a-z]+:|#)', page)) <= {"data:", "#"} and "url(" not in page
    printed = capsys.readouterr().out
    assert (
        "\nmask -> rgb " in printed
        and "depth/objects/absrel" in printed
        and "count in no score" not in printed
        and "written: " in printed
    )
    assert "\nprotocol\nmodel: " in printed and "\nseed: 0\n" in printed and "fit_in_depth: the model's own" in printed
    assert f"\npixels compared: depth {12 * tiny_model.SIZE**2}, normal " in printed and "rgb -> depth 3072" in printed
    assert "depth/rmse" in printed and "depth/silog" not in printed and "depth/silog" in page


def test_several_seeds_give_means_and_deviations_of_what_each_gives_alone(config, model_dir, tmp_path, capsys):
    config.evaluate.update({"n": 3, "samples": 0, "draws": 1, "tasks": ("mask->rgb",)})
    alone = []
    for config.seed in (1, 0):
        alone.append(evaluate.run(config, str(model_dir), str(tmp_path / "m.json")))
    assert "spread" not in alone[0]
    config.evaluate.seeds = 2
    both = evaluate.run(config, str(model_dir), str(tmp_path / "m.json"))
    for section, column, metric in (
        ("understanding", "model", "normal/mean"),
        ("any to any", "rgb/psnr", "mask -> rgb"),
    ):
        a, b = (report[section][column][metric] for report in alone)
        assert a != b and both[section][column][metric] == pytest.approx((a + b) / 2)
        assert both["spread"][section][column][metric] == pytest.approx(abs(a - b) / math.sqrt(2))
    assert both["spread"]["understanding"]["round_trip"]["normal/mean"] == 0
    assert " +- " in capsys.readouterr().out and " \u00b1 " in (tmp_path / "m.html").read_text()
    config.evaluate.temperature = 0.0
    with pytest.raises(UsageError, match="evaluate.seeds is 2, which needs evaluate.temperature above 0, as 1"):
        evaluate.run(config, str(model_dir))


@pytest.mark.parametrize(("where", "name", "said"), [(Runner, "from_class", 1), (any_to_any, "evaluate", 3)])
def test_what_is_cut_off_has_printed_the_tables_that_it_had(
    where, name, said, config, model_dir, tmp_path, capsys, monkeypatch
):
    """The files are whole or not there."""
    config.evaluate.update({"n": 3, "samples": 2, "draws": 1, "seeds": 2, "tasks": ("mask->rgb",)})
    heads = ["\nunderstanding\n", "\ngeneration\n", "\nconsistency\n", "\nany to any\n"]
    monkeypatch.setattr(where, name, None)
    with pytest.raises(TypeError):
        evaluate.run(config, str(model_dir), str(tmp_path / "m.json"))
    printed = capsys.readouterr().out
    assert [head for head in heads if head in printed] == heads[:said]
    assert "round_trip" in printed and " +- " in printed
    assert not list(tmp_path.glob("m.*"))


def test_what_does_not_depend_on_the_seed_is_computed_once(runner, batch, monkeypatch):
    """Of three seeds the round trip of each batch is made once, and all columns are those of the seeds alone."""
    a, calls = runner.sampler.architecture, []
    average = report.mean_image([batch], a)
    round_trip = Sampler.round_trip
    monkeypatch.setattr(Sampler, "round_trip", lambda *arguments: calls.append(1) or round_trip(*arguments))
    options = {"samples": 9, "facts": a.facts, "average": average}
    counts = report.scored([batch], a)
    together = dict(report.evaluate(runner, cut(batch, 6), counts, seeds=(0, 1, 2), **options))
    assert len(calls) == 2
    alone = dict(report.evaluate(runner, cut(batch, 6), counts, seeds=(2,), **options))
    for section, (scores,) in alone.items():
        assert together[section][2] == scores
    tasks = any_to_any.parse(["rgb->depth"], a.modalities)
    calls.clear()
    both = any_to_any.evaluate(runner, cut(batch, 6), 12, tasks, a.facts, average, (0, 2))
    assert (
        len(calls) == 2 and both[1] == any_to_any.evaluate(runner, cut(batch, 6), 12, tasks, a.facts, average, (2,))[0]
    )


def test_masks_without_a_palette_are_scored_by_their_groups(config, model_dir, tmp_path, capsys):
    """As those of the released weights: regions have no names, and none of their scores is left out silently."""
    architecture, params = model_folders.load(model_dir)
    facts = dataclasses.replace(architecture.facts, palette=Facts().palette, regions=())
    dataclasses.replace(architecture, facts=facts).save(tmp_path / "m")
    weights.save_params(tmp_path / "m" / model_folders.WEIGHTS_FILE, params)
    config.evaluate.update({"n": 4, "samples": 4, "draws": 1})
    report = evaluate.run(config, str(tmp_path / "m"), str(tmp_path / "m.json"))
    names = {"ari", "matched_iou", "boundary/f", "boundary/recall", "boundary/precision"}
    for column in ("model", "round_trip", "mean_image"):
        assert {key[5:] for key in report["understanding"][column] if key.startswith("mask/")} == names
    assert report["understanding"]["round_trip"]["mask/ari"] > 0.5 > report["understanding"]["model"]["mask/ari"]
    assert {"boundary/rgb/f", "rgb-rest/mask/matched_iou"} <= set(report["consistency"]["generated"])
    assert report["protocol"]["regions"].startswith("without names, as the model has no palette: true ones have one")
    assert "rounded up to whole pixels (1)" in report["protocol"]["regions"]
    assert "mask/matched_iou" in capsys.readouterr().out


def test_numbered_classes_are_those_of_the_data_if_there_are_as_many(config, model_dir, tmp_path):
    architecture, params = model_folders.load(model_dir)
    for count, fits in ((8, True), (7, False)):
        folder = tmp_path / str(count)
        numbered = architecture.with_classes(tuple(map(str, range(count))))
        numbered.save(folder)
        weights.save_params(folder / model_folders.WEIGHTS_FILE, class_table.fit(params, architecture, numbered))
        config.evaluate.update({"n": 2, "samples": 2})
        if fits:
            config.evaluate.seeds = 2  # of classes that no classifier knows
            evaluate.run(config, str(folder), str(tmp_path / "m.json"))
            page = (tmp_path / "m.html").read_text()
            assert "The first 2 samples" in page and "independent classifier" not in page
            assert json.loads((tmp_path / "m.json").read_text())["scenes"] == 2
        else:
            with pytest.raises(UsageError, match="has the classes .*; the model .* has others"):
                evaluate.run(config, str(folder), str(tmp_path / "m.json"))


def understood(runner, batch, arrays, facts):
    """Scores of predictions of a batch, as evaluation has them."""
    a = runner.sampler.architecture
    values, there = report.truth(batch, a.modalities, facts), report.present(batch, a)
    return dense.summary(to_values(arrays, facts), values, facts, there)


def evaluated(runner, scenes, counts, **options):
    """All sections of one seed."""
    return {section: scores for section, (scores,) in report.evaluate(runner, scenes, counts, **options)}


def test_perfect_predictions_score_perfectly(runner, batch):
    arrays = {m: to_array(batch[m]) for m in ("depth", "normal", "mask")}
    facts = dataclasses.replace(runner.sampler.architecture.facts, depth_range=(3.5, 11.0))
    scores = understood(runner, batch, arrays, facts)
    assert scores["depth/absrel"] == pytest.approx(0, abs=1e-6) and scores["mask/miou"] == 1
    assert scores["normal/mean"] == pytest.approx(0, abs=1e-3)


def test_absent_modalities_and_metadata_are_left_out(runner, batch):
    batch["present"][:, 1] = False  # no depth anywhere
    batch["present"][:3, 3] = False
    batch["normal"][0, 0, 0] = 0
    counts = report.scored([batch], runner.sampler.architecture)
    assert counts == {"rgb": 12, "depth": 0, "normal": 12, "mask": 9}
    found = evaluated(runner, [batch], counts, samples=0, facts=runner.sampler.architecture.facts)
    scores = found["understanding"]["model"]
    assert math.isnan(scores["depth/l1"]) and np.isfinite(scores["normal/mean"]) and np.isfinite(scores["mask/miou"])
    assert "mean_image" not in found["understanding"]
    # What the other modalities of the scenes that have them all allow.
    real = found["consistency"]["real"]
    assert {"boundary/rgb/f", "rgb-rest/normal/mean", "rgb-rest/mask/miou"} <= set(real)
    assert "rgb-rest/depth/l1" not in real
    assert "generated" not in found["generation"]


def test_predictions_and_samples_do_not_depend_on_batches_and_draws_are_averaged(runner, batch):
    first, classes = runner.rest_from_rgb(batch["rgb"], 0), np.arange(12) % 8
    assert set(first) == {"depth", "normal", "mask"} and len(first["mask"]) == 12
    joint, four = runner.from_class(classes, 0), Options("euler", 2, batch=4)
    other = dataclasses.replace(runner, understanding=four, generation=four)
    for m, x in other.rest_from_rgb(batch["rgb"][:7], 0).items():
        np.testing.assert_allclose(x, first[m][:7], atol=1e-4)
    for m, x in other.from_class(classes, 0).items():
        np.testing.assert_allclose(x, joint[m], atol=1e-4)
    twice = dataclasses.replace(runner, understanding=dataclasses.replace(runner.understanding, draws=2)).rest_from_rgb(
        batch["rgb"], 0
    )
    assert not np.allclose(twice["depth"], first["depth"], atol=1e-4)


def cut(batch, size):
    return [{key: x[i : i + size] for key, x in batch.items()} for i in range(0, len(batch["rgb"]), size)]


@pytest.mark.parametrize("size", [1, 5])
def test_scores_do_not_depend_on_how_scenes_come(runner, batch, size):
    """Also of a set in which each scene lacks something else, and of shuffled modalities."""
    batch["present"][[1, 6, 7]] = np.array([[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0]], bool)
    average = report.mean_image([batch], runner.sampler.architecture)
    for m, x in report.mean_image(cut(batch, size), runner.sampler.architecture).items():
        np.testing.assert_allclose(x, average[m], atol=1e-6)
    metadata = {"fov_degrees": 40, "depth_range": [3.5, 11]}
    facts = runner.sampler.architecture.facts.with_camera_of(Facts.from_metadata(metadata))

    def scores(parts):
        counts = report.scored(parts, runner.sampler.architecture)
        assert counts == {"rgb": 11, "depth": 10, "normal": 10, "mask": 10}
        return evaluated(runner, parts, counts, samples=9, facts=facts, average=average)

    whole, parts = scores([batch]), scores(cut(batch, size))
    for section, columns in whole.items():
        assert parts[section].keys() == columns.keys()
        for name, column in columns.items():
            assert parts[section][name] == pytest.approx(column, rel=1e-3, abs=1e-3, nan_ok=True), (section, name)
    assert set(whole["consistency"]) == {"generated", "generated_shuffled", "real", "real_shuffled"}


def test_shuffled_scores_of_batches_are_those_of_all_at_once():
    values = tiny_model.values(11)
    rest, facts = {m: x for m, x in values.items() if m != "rgb"}, Facts(PALETTE, REGIONS, (), 40.0, (3.5, 11.0))
    expected = consistency.summary(*consistency.shuffled(values, rest), facts)
    for sizes in ([11], [1] * 11, [5, 6], [4, 1, 6], [3, 3, 3, 2], [10, 1], [2, 9]):
        agreement, first = Agreement(facts), 0
        for size in sizes:
            rows = slice(first, first + size)
            agreement.add({m: x[rows] for m, x in values.items()}, {m: x[rows] for m, x in rest.items()})
            first += size
        found = {key: average.value for key, average in agreement.scores()["_shuffled"].items()}
        assert found == pytest.approx(expected), sizes
    assert list(agreement.scores()) == ["", "_shuffled"]
    few = Agreement(facts)
    few.add({m: x[:4] for m, x in values.items()}, {m: x[:4] for m, x in rest.items()})
    assert list(few.scores()) == [""]


def test_mean_image_ignores_absent_tiles(model, batch):
    architecture, _ = model
    batch["present"][2:, 1] = False
    average = report.mean_image([batch], architecture)
    expected = to_array(batch["depth"][:2]).mean(0)
    np.testing.assert_allclose(average["depth"][0], expected, atol=1e-6)


def test_table_shows_missing_numbers_as_dashes():
    text = report.table({"a": {"x": 0.5}, "long name": {"x": math.nan, "y": 12.0}})
    assert [line.split() for line in text.splitlines()] == [
        ["a", "long", "name"],
        ["x", "0.5000", "-"],
        ["y", "-", "12.0000"],
    ]


def test_default_output_is_in_workdirs_only(tmp_path):
    assert evaluate._output("", str(tmp_path)).name == str(evaluate._output("", "shapes-tiny")) == "metrics.json"
    (tmp_path / "checkpoints").mkdir()
    assert evaluate._output("", str(tmp_path)) == evaluate.epath.Path(tmp_path) / "metrics.json"


def test_configs_of_other_models_and_bad_places_are_named_before_evaluating(config, model_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(held_out, "Scenes", None)
    with pytest.raises(UsageError, match=f"--out {tmp_path} is a folder; allowed: a file"):
        evaluate.run(config, str(model_dir), str(tmp_path))
    with pytest.raises(UsageError, match=r"--out is .*m\.html; allowed: a file of scores such as metrics.json"):
        evaluate.run(config, str(model_dir), str(tmp_path / "m.html"))
    (tmp_path / "m.html").mkdir()
    with pytest.raises(UsageError, match=r"--out .*m\.html is a folder; allowed: a file"):
        evaluate.run(config, str(model_dir), str(tmp_path / "m.json"))
    config.model.depth = 3
    with pytest.raises(UsageError, match="config key model.depth is 3, the model in .* has 2"):
        evaluate.run(config, str(model_dir))


def test_error_messages(config, model_dir, runner, batch):
    with pytest.raises(UsageError, match="no model at 'nowhere'"):
        evaluate.run(config, "nowhere")
    config.data.test_split = "validation"
    with pytest.raises(UsageError, match="split 'validation' is not in"):
        evaluate.run(config, str(model_dir))
    config.evaluate.draws = 0
    with pytest.raises(UsageError, match="evaluate.draws is 0; it must be an integer of at least 1"):
        evaluate.run(config, str(model_dir))
    batch["present"][:, 0] = False
    with pytest.raises(UsageError, match="no held-out scene has rgb"):
        report.scored([batch], runner.sampler.architecture)


def test_what_is_in_holes_counts_in_no_score(runner, batch):
    """All scores are the same whatever is in the holes, and a prediction that is right outside of them is perfect."""
    valid = np.ones(batch["depth"].shape[:3], bool)
    valid[:, 3:9, 2:7], valid[5] = False, False
    arrays = {m: to_array(batch[m]) for m in ("depth", "normal", "mask")}
    batch |= {holes.key("depth"): valid, holes.key("normal"): valid}
    facts = dataclasses.replace(runner.sampler.architecture.facts, depth_range=(3.5, 11.0))
    rubbish = {m: np.where(valid[..., None], arrays[m], -arrays[m]) for m in ("depth", "normal")}
    scores = understood(runner, batch, arrays | rubbish, facts)
    assert scores["depth/absrel"] == pytest.approx(0, abs=1e-6)
    assert scores["normal/mean"] == pytest.approx(0, abs=1e-3)
    counts = report.scored([batch], runner.sampler.architecture)
    assert counts == {"rgb": 12, "depth": 11, "normal": 11, "mask": 12}
    other = dict(batch)
    for m in ("depth", "normal"):
        other[m] = np.where(valid[..., None], batch[m], np.roll(batch[m], 3, 1))
    facts = facts.with_camera_of(Facts.from_metadata({"fov_degrees": 40, "depth_range": [3.5, 11]}))
    first, second = (evaluated(runner, [b], counts, samples=0, facts=facts) for b in (batch, other))
    for part in ("understanding", "consistency"):
        assert first[part].keys() == second[part].keys()
    # The round trip of the autoencoder alone sees what is in the holes.
    assert first["understanding"]["model"] == pytest.approx(second["understanding"]["model"], nan_ok=True)
    for column, expected in second["consistency"].items():
        assert first["consistency"][column] == pytest.approx(expected, nan_ok=True), column
