"""Tests the study of labels that are wrong in training: which are wrong, what becomes of them, and the whole of it."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import tiny_model

from mmgen_jax import audit, evaluate, settings
from mmgen_jax.checkpoints import model_folders
from mmgen_jax.data import pipeline, tiles
from mmgen_jax.experts import suspects
from mmgen_jax.experts.suspects import Suspect
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.studies import paired, relabel, treated_labels, wrong_labels
from mmgen_jax.studies.audit import cases
from mmgen_jax.studies.wrong_labels import Wrong
from mmgen_jax.system.errors import UsageError

LABELS = ("depth", "normal", "mask")


def opened(folder, split="train"):
    return pipeline.open_split(folder, split, NAMES, tiny_model.SIZE)


@pytest.fixture(scope="module")
def corrupted(tiles_dir):
    reader = opened(tiles_dir)
    return reader, *wrong_labels.corrupted(reader, tiles.read_facts(tiles_dir), 0.25, seed=3)


def test_a_share_of_each_label_is_wrong_in_every_way_and_listed(corrupted, tiles_dir):
    reader, labels, wrong = corrupted
    assert sorted(labels) == sorted((w.modality, w.key) for w in wrong)
    for m in LABELS:
        how = Counter(w.corruption for w in wrong if w.modality == m)
        # 24 of 96; patches of 2 x 2 pixels may change nothing.
        assert set(how) == {name for name, _, _ in cases(m)} and 18 <= sum(how.values()) <= 24
    chosen = [{w.key for w in wrong if w.modality == m} for m in LABELS]
    assert chosen[0] != chosen[1] != chosen[2]
    again = wrong_labels.corrupted(reader, tiles.read_facts(tiles_dir), 0.25, seed=3)
    assert again[1] == wrong and all(np.array_equal(again[0][at], pixels) for at, pixels in labels.items())


def test_wrong_labels_differ_where_their_corruption_says(corrupted):
    reader, labels, wrong = corrupted
    numbers = reader.numbers()
    for m, key, corruption in wrong:
        was, now = reader.load([numbers[key]])[m][0], labels[m, key]
        assert now.dtype == was.dtype and now.shape == was.shape
        moved = (now != was).any(-1)
        if corruption.startswith("patch"):
            side = int(corruption.split()[2])
            rows, columns = np.nonzero(moved)
            assert 0 < moved.sum() <= side**2 and np.ptp(rows) < side and np.ptp(columns) < side
        elif corruption.startswith("offset"):
            amount = float(corruption.split()[2]) / 100
            apart = (now.astype(float) - was) / 65535
            assert np.abs(apart).max() == pytest.approx(amount, abs=1e-4) and moved.mean() > 0.5
        else:
            assert moved.mean() > 0.5


def test_a_copy_has_the_other_labels_and_nothing_else(corrupted, tiles_dir, tmp_path):
    reader, labels, _ = corrupted
    taken = {("mask", reader.key(5)): None}
    wrong_labels.write(tmp_path, tiles_dir, "train", lambda: labels | taken)
    wrong_labels.write(tmp_path, tiles_dir, "train", lambda: pytest.fail("it is there already"))
    assert tiles.read_metadata(tmp_path) == tiles.read_metadata(tiles_dir)
    assert tiles.class_names(tmp_path) == tiles.class_names(tiles_dir)
    for split in ("train", "test"):
        before, after = opened(tiles_dir, split), opened(tmp_path, split)
        assert before.numbers() == after.numbers()
        old, new = (r.load(range(len(r))) for r in (before, after))
        np.testing.assert_array_equal(old["class_id"], new["class_id"])
        for m in NAMES:
            for i in range(len(before)):
                changed = labels.get((m, before.key(i))) if split == "train" else None
                if split == "train" and (m, i) == ("mask", 5):
                    assert not new["present"][i, NAMES.index(m)]
                    continue
                np.testing.assert_array_equal(new[m][i], old[m][i] if changed is None else changed)
                assert new["present"][i].sum() == 4 - (split == "train" and i == 5)


def test_what_an_audit_is_worth():
    wrong = [Wrong("depth", "b", "patch"), Wrong("depth", "d", "offset"), Wrong("mask", "a", "patch")]
    scores = {"depth": {"a": 1.0, "b": 7.0, "c": 9.0, "d": 10.0}, "mask": {"a": 2.0, "b": 3.0}}
    scored = [Suspect(m, key, s, 0, 0, 4) for m, of in scores.items() for key, s in of.items()]
    found = wrong_labels.judged(scored, wrong, beyond=6.0)
    assert found["cases"] == {
        "depth, patch": {"AUROC": 0.5, "share listed": 1.0},
        "depth, offset": {"AUROC": 1.0, "share listed": 1.0},
        "mask, patch": {"AUROC": 0.0, "share listed": 0.0},
    }
    assert (found["listed"], found["hit"], found["wrong"]) == (3, 2, 3)


def test_labels_come_through_the_command_as_they_are(corrupted, tmp_path):
    reader, _, wrong = corrupted
    suspects.write(tmp_path / "list.tsv", [Suspect(w.modality, w.key, 9.0, 0, 0, 4) for w in wrong])
    listed = suspects.read(tmp_path / "list.tsv")
    right = treated_labels.right(reader, listed)
    made = treated_labels.labelled(tmp_path, reader, right, tmp_path / "list.tsv")
    assert set(made) == {(w.modality, w.key) for w in wrong} == set(treated_labels.absent(listed))
    for at, pixels in right.items():
        np.testing.assert_array_equal(made[at], pixels)


def test_predictions_take_the_place_of_labels(model_config, model_dir, tiles_dir):
    model_config.evaluate.update({"n": 24, "batch": 4, "steps": 1})
    runner, scenes, facts = audit.opened(settings.parse(model_config), str(model_dir), 2)
    keys = {scenes.reader.key(i) for i in (1, 2, 5, 7, 11)}
    made = treated_labels.predicted(runner, scenes, facts, {"depth": keys, "mask": {scenes.reader.key(3)}})
    assert set(made) == {("depth", key) for key in keys} | {("mask", scenes.reader.key(3))}
    assert made["depth", scenes.reader.key(7)].dtype == np.uint16
    # The number of the scene decides the noise, whatever else is predicted.
    alone = treated_labels.predicted(runner, scenes, facts, {"depth": {scenes.reader.key(7)}})
    apart = alone["depth", scenes.reader.key(7)].astype(int) - made["depth", scenes.reader.key(7)]
    assert np.abs(apart).max() <= 65535 * 1e-4


def test_differences_are_between_trainings_of_the_same_seed():
    scores = {"as is": [{"a": x} for x in (1.0, 5.0, 3.0)], "other": [{"a": x} for x in (0.5, 4.0, 3.0)]}
    means, apart = paired.compared(scores, "as is", ["a"])
    assert means == {"as is": {"a": 3.0}, "other": {"a": 2.5}}
    assert apart == {"other": {"a": -0.5, "a +-": pytest.approx(0.5 / 3**0.5)}}
    assert paired.compared({name: runs[:1] for name, runs in scores.items()}, "as is", ["a"])[1] == {}


@pytest.fixture
def study(tiny_config, tmp_path):
    tiny_config.evaluate.update({"n": 8, "samples": 0, "batch": 8, "steps": 1})
    return relabel.Study(settings.parse(tiny_config), tmp_path / "out", share=0.2, beyond=1.0, draws=2, more=2)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"share": 0.0}, "--share is 0; allowed: above 0, to 0.5"),
        ({"share": float("nan")}, "--share is nan; allowed"),
        ({"share": 0.6}, "--share is 0.6; allowed"),
        ({"share": 1e-9}, "--share is 1e-09; it must be so large that a label is made wrong"),
        ({"beyond": float("inf")}, "--beyond is inf; allowed: a finite number"),
        ({"more": 2, "chosen.optim": {"decay_steps": 3}}, "warmup_steps . optim.decay_steps is 3; allowed: at most"),
    ],
)
def test_bad_requests(study, change, message):
    if optim := change.get("chosen.optim"):
        change = {"more": change["more"], "chosen": study.chosen.changed(optim=optim)}
    with pytest.raises(UsageError, match=message):
        relabel.run(dataclasses.replace(study, **change), seeds=1)
    assert not study.folder.exists()


@pytest.mark.slow
def test_the_whole_study_and_what_is_done_stays(study, monkeypatch, capsys):
    scores = relabel.run(study, seeds=1)
    assert list(scores) == list(relabel.TREATMENTS)
    assert all(np.isfinite([one[m] for m in relabel.METRICS]).all() for (one,) in scores.values())
    printed = capsys.readouterr().out
    assert "labels are suspects" in printed and "| suspects left out |" in printed
    listed = suspects.read(study.folder / audit.LIST)
    old, new = (study.split(name) for name in ("clean", "relabelled"))
    for m, keys in listed.items():
        for i in (i for i in range(len(old)) if old.key(i) in keys):
            np.testing.assert_array_equal(old.load([i])[m], new.load([i])[m])
            assert not study.split("without").load([i])["present"][0, NAMES.index(m)]
    assert model_folders.load(study.folder / "runs" / "clean-0")[0].image_size == tiny_model.SIZE
    for module, name in ((relabel.train, "run"), (evaluate, "score"), (audit, "opened")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it is done already"))
    assert relabel.run(study, seeds=1) == scores
    with pytest.raises(UsageError, match="has a study with other share, beyond; give another folder"):
        relabel.run(dataclasses.replace(study, share=0.3, beyond=2.0), seeds=1)
