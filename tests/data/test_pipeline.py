"""Order is a function of (seed, step): not of hosts, workers or where a run was interrupted."""

import itertools

import numpy as np
import pytest

from mmgen_jax.data import pipeline, tiles
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.system.errors import UsageError


def batches(tiles_dir, count=5, flip=True, **kwargs):
    transforms = (pipeline.Select(NAMES, 16), pipeline.Flip(NAMES)) if flip else (pipeline.Select(NAMES, 16),)
    source = tiles.read_tiles(tiles_dir, "train")
    return list(itertools.islice(pipeline.batches(source, transforms, 32, **{"seed": 0} | kwargs), count))


def assert_same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        for key in x:
            np.testing.assert_array_equal(x[key], y[key])


def test_resuming_at_a_step_gives_the_same_batches(tiles_dir):
    # 96 tiles, 32 in a batch: the fourth batch is in the second epoch.
    assert_same(batches(tiles_dir, 7)[4:], batches(tiles_dir, 3, step=4))


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_split_the_same_global_batches(tiles_dir, hosts):
    parts = [batches(tiles_dir, 4, step=1, parts=(h,), of=hosts) for h in range(hosts)]
    joined = [{k: np.concatenate([p[i][k] for p in parts]) for k in parts[0][i]} for i in range(4)]
    assert_same(batches(tiles_dir, 5)[1:], joined)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_host_may_have_parts_that_are_not_neighbours(tiles_dir, workers):
    whole = batches(tiles_dir, 5)[2:]
    found = batches(tiles_dir, 3, step=2, parts=(0, 1, 3), of=4, workers=workers)
    assert_same([{k: np.concatenate([x[k][:16], x[k][24:]]) for k in x} for x in whole], found)


def test_workers_do_not_change_the_order(tiles_dir):
    assert_same(batches(tiles_dir, 3), batches(tiles_dir, 3, workers=1))


def test_every_tile_comes_once_an_epoch_and_epochs_differ(tiles_dir):
    first, second = batches(tiles_dir, 6, flip=False)[:3], batches(tiles_dir, 6, flip=False)[3:]

    def rows(epoch):
        return [x.tobytes() for batch in epoch for x in batch["rgb"]]

    assert len(set(rows(first))) == 96 and set(rows(first)) == set(rows(second))
    assert rows(first) != rows(second)


def test_seeds_differ(tiles_dir):
    assert (batches(tiles_dir, 1)[0]["rgb"] != batches(tiles_dir, 1, seed=1)[0]["rgb"]).any()


def test_flips_mirror_all_modalities_and_turn_normals(tiles_dir):
    plain, flipped = batches(tiles_dir, 3, flip=False), batches(tiles_dir, 3)
    share = []
    for a, b in zip(plain, flipped, strict=True):
        for i in range(32):
            mirrored = not np.array_equal(a["rgb"][i], b["rgb"][i])
            share.append(mirrored)
            for m in NAMES:
                expected = MODALITIES[m].mirror(a[m][i]) if mirrored else a[m][i]
                np.testing.assert_array_equal(b[m][i], expected)
    assert 0.3 < np.mean(share) < 0.7


def test_mirrored_normals_are_those_of_the_mirrored_surface():
    normals = np.zeros((1, 2, 3), np.float32)
    normals[0, 0] = (0.6, 0.0, 0.8)
    normals[0, 1] = (0.0, 1.0, 0.0)
    pixels = np.rint((normals + 1) * 127.5).astype(np.uint8)
    back = MODALITIES["normal"].mirror(pixels).astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(back[0, 1], (-0.6, 0.0, 0.8), atol=0.01)
    np.testing.assert_allclose(back[0, 0], (0.0, 1.0, 0.0), atol=0.01)


def test_load_reads_given_indices_and_names_one_outside(tiles_dir):
    batch = pipeline.load(tiles_dir, "test", ("rgb", "mask"), 16, [3, 1])
    assert batch["rgb"].shape == (2, 16, 16, 3) and "depth" not in batch and batch["present"].shape == (2, 2)
    with pytest.raises(UsageError, match="index 24 of split 'test'; allowed: 0 to 23"):
        pipeline.load(tiles_dir, "test", NAMES, 16, [24])


def test_hosts_must_divide_the_batch(tiles_dir):
    with pytest.raises(UsageError, match="train.batch is 32; it must be divisible by the number of parts .*, 3"):
        batches(tiles_dir, 1, of=3)
