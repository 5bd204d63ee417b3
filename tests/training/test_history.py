"""What a run remembers of its settings and of its data."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from mmgen_jax import train
from mmgen_jax.data import fingerprint
from mmgen_jax.data.damage import DamagedRecord
from mmgen_jax.data.shapes import builder
from mmgen_jax.settings import Settings
from mmgen_jax.system.errors import UsageError
from mmgen_jax.training import history


def test_changes_are_told_by_name_with_both_values(tmp_path):
    first = Settings()
    assert history.check(tmp_path, first) == {}
    history.write(tmp_path, first, 0, {})
    second = first.changed(train={"batch": 8}, optim={"learning_rate": 1e-3}, distributed={"coordinator": "a:1"})
    changes = history.check(tmp_path, second)
    assert changes == {
        "optim.learning_rate": (first.optim.learning_rate, 1e-3),
        "train.batch": (first.train.batch, 8),
    }
    history.write(tmp_path, second, 10, changes)
    assert history.check(tmp_path, second) == {}
    third = second.changed(train={"batch": 16})
    assert history.check(tmp_path, third) == {"train.batch": (8, 16)}
    history.write(tmp_path, third, 20, history.check(tmp_path, third))
    assert json.loads((tmp_path / "config.json").read_text())["train"]["batch"] == first.train.batch
    lines = [json.loads(line) for line in (tmp_path / "changes.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20] and lines[1]["changes"] == {"train.batch": [8, 16]}


def test_values_are_compared_as_they_are_stored(tmp_path):
    """JSON has no tuples."""
    history.write(tmp_path, Settings(), 0, {})
    assert history.check(tmp_path, Settings()) == {}
    rows = ((1.0, "rgb", 0.0, "all"),)
    changes = history.check(tmp_path, Settings().changed(objective={"mix": rows}))
    assert list(changes) == ["objective.mix"]


def test_settings_that_the_stored_version_did_not_know_are_no_change(tmp_path):
    stored = json.loads(Settings().to_json())
    del stored["train"]["batch"]
    stored["train"]["forgotten"] = 1
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert history.check(tmp_path, Settings().changed(train={"batch": 3})) == {}


@pytest.mark.parametrize(
    "section, key, value",
    [("autoencoder", "whitening", 1.0), ("train", "init_from", "shapes-tiny"), ("optim", "name", "muon")],
)
def test_what_cannot_take_effect_any_more_is_refused(tmp_path, section, key, value):
    history.write(tmp_path, Settings(), 0, {})
    with pytest.raises(
        UsageError, match=f"config key {section}.{key} is {value!r}, but .* was begun with .*: (the run|its opt)"
    ):
        history.check(tmp_path, Settings().changed(**{section: {key: value}}))


@pytest.mark.parametrize("name", [history.FIRST, history.CHANGES])
@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '{"changes": 1}'])
def test_a_damaged_history_is_said_in_one_line(tmp_path, name, text):
    history.write(tmp_path, Settings(), 0, {})
    (tmp_path / name).write_text(text + "\n")
    if name == history.FIRST and text == '{"changes": 1}':
        assert history.check(tmp_path, Settings()) == {}  # of a version that knew none of the settings of this one
        return
    with pytest.raises(UsageError, match=f"{name} is damaged"):
        history.check(tmp_path, Settings())


@pytest.mark.parametrize("name", [history.FIRST, history.CHANGES])
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_in_the_place_of_a_history_is_said_in_one_line(tmp_path, name, make):
    history.write(tmp_path, Settings(), 0, {})
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)
    with pytest.raises(UsageError, match=f"{name} is damaged"):
        history.check(tmp_path, Settings())


class Records(list):
    """Records of which some cannot be read."""

    def __init__(self, seed: int, count: int = 100, damaged: tuple[int, ...] = ()):
        rng = np.random.default_rng(seed)
        super().__init__({"key": f"{i}".encode(), "rgb": rng.bytes(8), "class_id": 1} for i in range(count))
        self._damaged = damaged

    def __getitem__(self, index):
        if index in self._damaged:
            raise DamagedRecord("damaged")
        return super().__getitem__(index)


def test_fingerprints_tell_data_apart_and_forgive_damage():
    mine = fingerprint.of(Records(0))
    assert mine.startswith("100:") and fingerprint.same(mine, fingerprint.of(Records(0)))
    assert not fingerprint.same(mine, fingerprint.of(Records(1)))
    assert not fingerprint.same(mine, fingerprint.of(Records(0, count=99)))
    assert fingerprint.same(mine, fingerprint.of(Records(0, damaged=(0, 99))))
    assert fingerprint.same(mine, fingerprint.of(Records(0, damaged=tuple(range(100)))))  # reading says what is wrong
    assert not fingerprint.same(mine, fingerprint.of(Records(1, damaged=tuple(range(50)))))
    assert not fingerprint.same(mine, "damaged") and not fingerprint.same(mine, "")


def test_a_resumed_run_says_what_changes_and_refuses_other_data(tiny_config, tmp_path, capsys):
    run = tmp_path / "run"
    tiny_config.train.steps = 1
    train.train(tiny_config, run)
    first = (run / "config.json").read_bytes()
    batch = tiny_config.train.batch
    tiny_config.train.update({"steps": 2, "batch": 2 * batch})
    capsys.readouterr()
    train.train(tiny_config, run)
    said = capsys.readouterr().out
    assert f"config key train.batch is {2 * batch} from here on; it was {batch}\n" in said
    assert "config key train.steps is 2 from here on; it was 1\n" in said
    assert (run / "config.json").read_bytes() == first
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    told = next(event for event in events if event["event"] == "settings")
    assert told["step"] == 1 and told["changes"]["train.batch"] == [batch, 2 * batch]

    builder.build(str(tmp_path / "other"), builder.Recipe(size=16, train=64, test=16, seed=5))
    tiny_config.data.dir, tiny_config.train.steps = str(tmp_path / "other"), 3
    with pytest.raises(
        UsageError, match="config key data.dir is .* not what the run was trained on so far .64 records"
    ):
        train.train(tiny_config, run)
    tiny_config.data.accept_change = True
    train.train(tiny_config, run)
    tiny_config.train.steps = 4
    tiny_config.data.accept_change = False
    train.train(tiny_config, run)  # the newest checkpoint is of the new data
