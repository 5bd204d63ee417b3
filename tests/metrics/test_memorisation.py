"""Copies of training images are told from samples of their distribution, in features and through the command."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from mmgen_jax.data.shapes import builder
from mmgen_jax.data.shapes.worlds import WORLDS
from mmgen_jax.metrics import generation, image_sets, neighbours
from mmgen_jax.metrics.memorisation import Memorisation
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import Share


def of(samples, held_out, train) -> Memorisation:
    found, numbers = neighbours.nearest(samples, train, "samples")
    return Memorisation(found, neighbours.nearest(held_out, train, "held out")[0], numbers, len(train))


def test_nearest_and_mean_distances_are_those_of_all_pairs(rng, monkeypatch):
    """Far from 0, where squares lose digits; of a copy nothing is left."""
    a, b = (rng.normal(size=(count, 5)).astype(np.float32) + 100 for count in (23, 31))
    b[17] = a[4]
    apart = np.linalg.norm(a[:, None].astype(np.float64) - b, axis=2)
    own = [np.linalg.norm(x.astype(np.float64) - y) for x, y in itertools.combinations(a, 2)]
    for rows, columns in ((1000, 20_000), (10, 7)):
        monkeypatch.setattr(neighbours, "_ROWS", rows)
        monkeypatch.setattr(neighbours, "_COLUMNS", columns)
        found, numbers = neighbours.nearest(a, b, "a")
        np.testing.assert_array_equal(numbers, apart.argmin(1))
        np.testing.assert_allclose(found, apart.min(1), rtol=1e-12)
        assert numbers[4] == 17 and found[4] == 0
        assert neighbours.mean_distance(a) == pytest.approx(np.mean(own), rel=1e-5)
    with pytest.raises(ValueError, match="at least 2"):
        neighbours.mean_distance(a[:1])


def test_independent_samples_are_as_near_as_held_out_images(rng):
    """Of one distribution: 1% of the samples are nearer than 1% of the held-out images, within four deviations."""
    train, held_out, samples = (rng.normal(size=(count, 8)) for count in (4000, 3000, 3000))
    found = of(samples, held_out, train)
    scores = found.scores()
    assert scores["memorised"] == pytest.approx(0.01, abs=4 * np.sqrt(2 * 0.01 / 3000))
    assert scores["nearest"] == pytest.approx(scores["nearest_held_out"], rel=0.03)
    assert not found.warnings()
    # A third of them are copies, which a little noise does not hide.
    samples[:1000] = train[rng.permutation(1000)] + 1e-3 * rng.normal(size=(1000, 8))
    assert of(samples, held_out, train).scores()["memorised"] == pytest.approx(0.34, abs=0.01)


def test_a_reference_that_is_not_held_out_is_told(rng):
    train, samples = rng.normal(size=(2, 2000, 4))
    assert "images of the reference are training images" in of(samples, train[:1500], train).warnings()[0]
    few = np.concatenate([train[:30], rng.normal(size=(1000, 4))])
    assert "images of the reference are training images" in of(samples, few, train).warnings()[0]
    assert "99 held-out images: 1% of fewer than 1,000" in of(samples, samples[:99], train).warnings()[0]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A data set, and images of scenes that are neither in its train split nor in its test split."""
    folder = tmp_path_factory.mktemp("rendered")
    builder.build(str(folder / "data"), builder.Recipe(size=32, train=96, test=48))
    pixels, _ = builder.scene_pixels(7, "train", np.arange(24), 32, WORLDS["single"])
    np.savez(folder / "new.npz", arr_0=pixels["rgb"])
    train = image_sets.read(folder / "data", "--train")
    np.savez(folder / "copies.npz", arr_0=np.stack(image_sets.pick(train, list(range(40, 0, -2)))))
    return folder


def run(place, samples, out, **more):
    compared = generation.Compared(place / samples, place / "data", split="test", train=place / "data")
    return generation.run(compared, out, **more)


def test_copies_are_found_and_shown(rendered, tmp_path, capsys):
    report = run(rendered, "copies.npz", tmp_path / "report.json")
    scores, train = report["scores"], report["train"]
    assert scores["nearest"] == pytest.approx(0, abs=1e-5) and scores["memorised"] == 1
    assert scores["nearest_held_out"] > 0.1 < scores["diversity"]
    assert train["images"] == 96 and train["source"].endswith("split train")
    assert train["picture"] == str(tmp_path / "report_nearest.png")
    assert all(pair["train"] == 40 - 2 * pair["sample"] for pair in train["closest"]) and len(train["closest"]) == 8
    told = capsys.readouterr().out
    assert "20 samples to the nearest of 96" in told and "about 1% if nothing is memorised" in told
    assert "warning: 48 held-out images" in told and str(train["picture"]) in told
    # Copies stand above themselves.
    picture = np.asarray(Image.open(train["picture"]))
    rows = np.flatnonzero((picture != 255).any((1, 2)))
    height = 128
    last = rows[-1] + 1
    np.testing.assert_array_equal(
        picture[last - height : last, 80:], picture[last - 2 * height - 8 : last - height - 8, 80:]
    )


def test_new_scenes_are_no_copies(rendered, tmp_path):
    scores = run(rendered, "new.npz", tmp_path / "report.json")["scores"]
    assert scores["memorised"] <= 3 / 24
    assert scores["nearest"] == pytest.approx(scores["nearest_held_out"], rel=0.2)
    assert scores["diversity"] == pytest.approx(scores["diversity_reference"], rel=0.2)


def test_training_images_are_shared_too(rendered, tmp_path):
    compared = generation.Compared(rendered / "new.npz", rendered / "data", split="test", train=rendered / "data")
    for worker in range(2):
        generation.look_at_share(compared, tmp_path / "seen", Share(worker, 2))
    assert len(list((tmp_path / "seen" / "train").iterdir())) == 2
    shared = run(rendered, "new.npz", tmp_path / "report.json", seen=tmp_path / "seen")["scores"]
    assert shared == pytest.approx(run(rendered, "new.npz", tmp_path / "report.json")["scores"], rel=1e-5)


def test_images_of_other_sizes_are_shown(rendered, tmp_path):
    np.savez(tmp_path / "large.npz", arr_0=np.random.default_rng(0).integers(0, 256, (9, 300, 280, 3), np.uint8))
    sets = image_sets.read(tmp_path / "large.npz", "--samples"), image_sets.read(rendered / "data", "--train")
    found = Memorisation(np.arange(9.0), np.arange(9.0), np.arange(9) % 5, 96)
    picture = found.picture(*sets)
    assert picture.shape[0] > 2 * 256 and picture.shape[1] > 8 * 256


def test_what_has_no_images_is_told(rendered, tmp_path):
    np.savez(tmp_path / "s.npz", mu=np.zeros(128), sigma=np.eye(128))
    new, data = rendered / "new.npz", rendered / "data"
    for compared, words in (
        (generation.Compared(new, tmp_path / "s.npz", train=data), "--reference .*statistics alone; .*beside --train"),
        (
            generation.Compared(new, data, train=tmp_path / "s.npz"),
            "--train .*s.npz has statistics alone; allowed: images",
        ),
        (generation.Compared(new, data, train=tmp_path / "none"), "--train .*none is not there"),
        (generation.Compared(new, data, train=data, train_split="all"), "split 'all' is not in .*allowed: test, train"),
    ):
        with pytest.raises(UsageError, match=words):
            generation.run(compared, tmp_path / "report.json")
    (tmp_path / "report_nearest.png").mkdir()
    with pytest.raises(UsageError, match="--out .*report_nearest.png is a folder"):
        run(rendered, "new.npz", tmp_path / "report.json")
    assert not (tmp_path / "report.json").exists()
