"""Damaged records are named, counted and replaced by others that depend on nothing but which they are."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmgen_jax import train
from mmgen_jax.data import pipeline, tiles
from mmgen_jax.data.damage import DamagedRecord, Mended, Tally
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import RunError, UsageError


def shard(folder) -> Path:
    (path,) = Path(folder).rglob("*train.array_record*")
    return path


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


@pytest.fixture(scope="module")
def hurt(tiles_dir, tmp_path_factory):
    """The scenes of `tiles_dir` with one record damaged, and the number of it."""
    folder = tmp_path_factory.mktemp("hurt") / "tiles"
    shutil.copytree(tiles_dir, folder)
    flip(shard(folder), shard(folder).stat().st_size // 2)
    source = tiles.read_tiles(str(folder), "train")
    bad = []
    for i in range(len(source)):
        try:
            tiles.decode_tile(source[i])
        except DamagedRecord:
            bad.append(i)
    assert len(bad) == 1
    return str(folder), bad[0]


def batches(folder, count, tally, **kwargs):
    source = tiles.read_tiles(folder, "train")
    transforms = (pipeline.Select(NAMES, 16), pipeline.Flip(NAMES))
    stream = pipeline.batches(source, transforms, 32, seed=0, tally=tally, **kwargs)
    return list(itertools.islice(stream, count))


def tally(allowed=0.5, lines=None):
    return Tally(allowed, 96, ([] if lines is None else lines).append)


def assert_same(a, b):
    for x, y in zip(a, b, strict=True):
        assert set(x) == set(y) and all(np.array_equal(x[key], y[key]) for key in x)


def test_sound_data_are_the_same_with_and_without_a_tally(tiles_dir):
    assert_same(batches(tiles_dir, 4, None), batches(tiles_dir, 4, tally()))


def test_only_the_damaged_sample_changes_and_it_is_named_and_counted(tiles_dir, hurt):
    folder, bad = hurt
    lines = []
    counted = tally(lines=lines)
    found, sound = batches(folder, 6, counted), batches(tiles_dir, 6, None)  # two epochs
    changed = [
        sum(any(not np.array_equal(a[key][i], b[key][i]) for key in a) for i in range(32))
        for a, b in zip(found, sound, strict=True)
    ]
    assert sum(changed[:3]) == 1 and sum(changed[3:]) == 1
    assert counted.settle() == 2
    (line,) = lines
    assert line.startswith(f"damaged, another record takes its place: record {bad} of {shard(folder)} is damaged: ")


@pytest.mark.parametrize("kwargs", [{"workers": 1}, {"step": 3}, {"hosts": 2}])
def test_what_takes_its_place_depends_on_nothing_else(hurt, kwargs):
    folder, _ = hurt
    whole = batches(folder, 6, tally())
    if "hosts" in kwargs:
        parts = [batches(folder, 6, tally(), parts=(host,), of=2) for host in range(2)]
        assert_same(whole, [{k: np.concatenate([a[k], b[k]]) for k in a} for a, b in zip(*parts, strict=True)])
    else:
        first = kwargs.get("step", 0)
        assert_same(whole[first:], batches(folder, 6 - first, tally(), **kwargs))


def test_without_a_tally_the_first_one_ends_it(hurt):
    with pytest.raises(DamagedRecord, match=r"record \d+ of .*array_record.* is damaged: Corrupted Riegeli"):
        batches(hurt[0], 3, None)


def test_none_are_allowed_at_zero(hurt):
    message = r"^1 damaged records in \d+ that were read \(the split has 96\), more than the share 0 .*record \d+ of"
    with pytest.raises(RunError, match=message):
        batches(hurt[0], 3, tally(0.0))


def test_a_share_is_of_what_was_read_or_of_the_split():
    counted = tally(0.1)  # 9 of the first 96
    counted.note(np.arange(9), lambda i: ["text"])
    assert counted.settle() == 9
    with pytest.raises(RunError, match="^10 damaged records in 10 .* more than the share 0.1 that .* allows"):
        counted.note(np.arange(9, 10), lambda i: ["text"])
    counted = Tally(0.1, 96, print, found=9, read=190)  # a run that resumes
    counted.note(np.arange(10), lambda i: ["text"])
    assert counted.settle() == 19
    with pytest.raises(RunError, match="^21 damaged records in 202 "):
        counted.note(np.arange(2), lambda i: ["text"])


def test_hosts_count_together():
    counted = Tally(0.1, 96, print, lambda mine: 3 * mine)
    counted.note(np.arange(4), lambda i: ["text"])
    with pytest.raises(RunError, match="^12 damaged records in 12 "):
        counted.settle()


@pytest.mark.parametrize("size", [0, 1000, 100_000])
def test_a_shard_that_is_cut_off_ends_in_one_line(tiles_dir, tmp_path, size):
    shutil.copytree(tiles_dir, tmp_path / "tiles")
    path = shard(tmp_path / "tiles")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UsageError, match=f"100 records in a row are damaged, .* of {path} is damaged: ") as caught:
        batches(str(tmp_path / "tiles"), 1, tally())
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_all_records_is_no_damage(tiles_dir):
    with pytest.raises(UsageError, match="wants 32x32"):
        Mended(tiles.read_tiles(tiles_dir, "train"), (pipeline.Select(NAMES, 32),))[0]


def test_a_run_goes_on_counts_and_says_so(tiny_config, hurt, tmp_path, capsys):
    tiny_config.data.update({"dir": hurt[0], "max_damaged": 0.02})
    tiny_config.train.steps = 6  # an epoch
    train.train(tiny_config, tmp_path)
    tiny_config.train.steps = 12
    train.train(tiny_config, tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    counts = [json.loads(line)["damaged"] for line in lines]
    assert counts == sorted(counts) and counts[5] == 1 and counts[11] == 2
    assert "damaged, another record takes its place: record" in capsys.readouterr().out
    assert json.loads((tmp_path / "checkpoints" / "12" / "meta" / "metadata").read_text())["damaged"] == 2
    tiny_config.data.max_damaged = 0.0
    with pytest.raises(RunError, match="data.max_damaged"):
        train.train(tiny_config, tmp_path / "strict")
