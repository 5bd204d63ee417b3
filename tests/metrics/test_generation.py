"""The command that compares generated images with real ones, from files to the report."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import random_inception
from PIL import Image
from safetensors.numpy import save_file

from mmgen_jax.frozen import inception_files
from mmgen_jax.metrics import classifier, generation, image_sets, judges, parts
from mmgen_jax.metrics.gaussians import Gaussian, Moments, distance
from mmgen_jax.metrics.looked import look
from mmgen_jax.system.errors import UsageError
from mmgen_jax.system.shares import ALL, Share
from mmgen_jax.tensor_files.npz import Npz

DIVERSITY = ["diversity", "diversity_reference"]


def images(seed: int, count: int, size: int = 32) -> np.ndarray:
    """Coarse noise, whose colours differ with the seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (count, 4, 4, 3)) + 15 * seed
    return np.repeat(np.repeat(coarse, size // 4, 1), size // 4, 2).astype(np.uint8)


def save(folder, arrays: np.ndarray, name: str = "{:03d}.png"):
    folder.mkdir(exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(folder / name.format(i))
    return folder


@pytest.fixture
def place(tmp_path):
    """A folder of samples beside pictures of another modality, a tree of real images, and both as ADM's .npz."""
    made, real = images(0, 8), images(1, 9)
    save(tmp_path / "made", made, "rgb_{:03d}.png")
    save(tmp_path / "made", images(2, 8), "depth_{:03d}.png")
    save(tmp_path / "real", real[:4])
    save(tmp_path / "real" / "more", real[4:])
    np.savez(tmp_path / "made.npz", arr_0=made)
    np.savez_compressed(tmp_path / "real.npz", arr_0=real)
    return tmp_path


def run(place, samples, reference, statistics="", seen="", **more):
    compared = generation.Compared(place / samples, place / reference, **more)
    return generation.run(compared, place / "report.json", statistics=statistics, seen=seen)


def look_at_share(place, samples, seen, share, **more):
    generation.look_at_share(generation.Compared(place / samples, place / "real.npz", **more), seen, share)


def test_folders_and_files_of_the_same_images_score_alike(place, capsys):
    first, second = run(place, "made", "real"), run(place, "made.npz", "real.npz")
    assert first["scores"] == pytest.approx(second["scores"], rel=1e-6)
    judge = classifier.load()
    a, b = (Moments.of(judge.features(x)).gaussian() for x in (images(0, 8), images(1, 9)))
    assert first["scores"]["fid"] == pytest.approx(distance(a, b), rel=1e-6)
    assert set(first["scores"]) == {"fid", "inception_score", "precision", "recall", *DIVERSITY}
    assert first["samples"]["images"] == 8 and first["reference"]["images"] == 9
    assert json.loads((place / "report.json").read_text()) == second
    told = capsys.readouterr().out
    assert "bundled classifier" in told and "linear with antialiasing" in told
    assert "8 samples and 9 images" in told and "the network has no features of places" in told
    assert "warning: 8 samples: their covariance of 128 features is singular" in told
    assert "warning: 9 reference images" in told and "Inception Score of fewer than 5,000 is too small" in told


def test_statistics_of_a_reference_stand_for_it(place):
    first = run(place, "made.npz", "real", statistics=place / "statistics.npz")
    second = run(place, "made.npz", "statistics.npz")
    assert second["scores"]["fid"] == pytest.approx(first["scores"]["fid"], rel=1e-9)
    assert "precision" not in second["scores"] and "arr_0" in second["protocol"]["precision"]
    assert second["reference"] == {
        "source": str(place / "statistics.npz"), "images": 0, "statistics_of_a_file": True,
    }  # fmt: skip
    assert not [line for line in second["warnings"] if "reference" in line]
    # With both, as in ADM's files, statistics go first, and images are there for precision and recall.
    with np.load(place / "statistics.npz") as stored:
        np.savez(place / "both.npz", arr_0=images(3, 5), **stored)
    third = run(place, "made.npz", "both.npz")
    assert third["scores"]["fid"] == pytest.approx(first["scores"]["fid"], rel=1e-9)
    assert "statistics of a file" in third["protocol"]["fid"] and "5 images" in third["protocol"]["recall"]


def test_processes_that_share_the_images_score_as_one(place, tiles_dir, monkeypatch):
    """Of folders, data sets and archives; what is there is not looked at again, and what is missing is."""
    for samples in ("made", "made.npz", tiles_dir):
        alone, seen = run(place, samples, "real"), place / "seen"
        for worker in (2, 0):
            look_at_share(place, samples, seen, Share(worker, 3))
        written = {name: seen / name for name in ("samples", "reference")}
        assert sorted(seen.iterdir()) == sorted(written.values())
        assert all(len(list(folder.iterdir())) == 2 for folder in written.values())
        shared = run(place, samples, "real.npz", seen=seen)
        assert shared["scores"] == pytest.approx(alone["scores"], rel=1e-5)
        assert shared["protocol"] == alone["protocol"]
        assert all(len(list(folder.iterdir())) == 3 for folder in written.values())
        with monkeypatch.context() as patched:
            patched.setattr(parts, "look", None)
            assert run(place, samples, "real.npz", seen=seen)["scores"] == shared["scores"]
            look_at_share(place, samples, seen, Share(1, 3))
        shutil.rmtree(seen)


def test_statistics_are_not_shared(place):
    """There is nothing to look at in a reference of statistics alone."""
    run(place, "made.npz", "real", statistics=place / "statistics.npz")
    compared = generation.Compared(place / "made.npz", place / "statistics.npz")
    generation.look_at_share(compared, place / "seen", Share(0, 2))
    assert [path.name for path in (place / "seen").iterdir()] == ["samples"]


@pytest.mark.parametrize("rows", [range(100), range(64, 65), range(60, 70), range(99, 100), range(0, 64)])
def test_a_range_of_any_set_is_read(tmp_path, rows):
    every = images(0, 100, 8)
    np.savez_compressed(tmp_path / "all.npz", arr_0=every)
    for path in (tmp_path / "all.npz", save(tmp_path / "all", every)):
        found = np.concatenate(list(image_sets.read(path, "--samples").batches(rows)))
        np.testing.assert_array_equal(found, every[rows.start : rows.stop])


def test_spatial_features_of_parts_are_added(tmp_path):
    """The network of published figures has moments of two kinds; this one stands for it."""

    class Judge:
        network, resizing, width, digest, distance = "a sum", "none", 4, "of no weights", "FID"

        def __call__(self, rgb):
            numbers = rgb.reshape(len(rgb), -1).astype(np.float32)
            return judges.Seen(numbers[:, :4], numbers[:, :2] / 255, numbers[:, 5:11])

    np.savez(tmp_path / "all.npz", arr_0=images(0, 20))
    made = image_sets.read(tmp_path / "all.npz", "--samples")
    for worker in range(3):
        parts.look_together(made, Judge(), "--samples", tmp_path / "seen", Share(worker, 3))
    found, alone = parts.look_together(made, Judge(), "--samples", tmp_path / "seen", ALL), look(made, Judge(), "x")
    np.testing.assert_array_equal(found.features, alone.features)
    np.testing.assert_array_equal(found.probabilities, alone.probabilities)
    assert found.sizes == alone.sizes == {(32, 32)} and set(found.moments) == {"features", "spatial"}
    for kind, gaussian in alone.gaussians.items():
        np.testing.assert_allclose(found.gaussians[kind].covariance, gaussian.covariance, rtol=1e-12)


def test_parts_of_others_are_told_and_overlapping_ones_left_out(place):
    seen, samples = place / "seen", place / "made.npz"
    look_at_share(place, samples, seen, Share(0, 2))
    look_at_share(place, samples, seen, Share(1, 3))  # overlaps it
    scores = run(place, "made.npz", "real.npz", seen=seen)["scores"]
    assert scores == pytest.approx(run(place, "made.npz", "real.npz")["scores"], rel=1e-5)
    np.savez(place / "others.npz", arr_0=images(5, 8))
    with pytest.raises(UsageError, match=r"seen-00000000-.* is of other images or another network.*delete it"):
        run(place, "others.npz", "real.npz", seen=seen)
    for damage in (b"PK", b""):
        next((seen / "samples").glob("seen-00000000-*")).write_bytes(damage)
        with pytest.raises(UsageError, match="seen-00000000-"):
            run(place, "made.npz", "real.npz", seen=seen)
    np.savez(next((seen / "samples").glob("seen-00000000-*")), made_of=np.zeros(32, np.uint8))
    with pytest.raises(UsageError, match="is of other images"):
        run(place, "made.npz", "real.npz", seen=seen)
    for share, folder, words in (
        (Share(0, 2), "", "--workers=2 needs --seen"),
        (Share(2, 2), seen, "--worker is 2 of --workers=2"),
        (Share(0, 9), seen, "--workers is 9; allowed: at most one for each of 8 images of --samples"),
        (Share(0, 2), samples, "--seen"),
    ):
        with pytest.raises(UsageError, match=words):
            look_at_share(place, samples, folder, share)


def test_parts_of_images_that_changed_since_are_told(place, tiles_dir, monkeypatch):
    """Any image of a part, not the first one alone, by the size and the time of its file."""
    changed = place / "made" / "rgb_005.png"
    shutil.copytree(tiles_dir, place / "tiles")
    shard = next((place / "tiles").rglob("*-train.array_record*"))
    for number, (samples, file) in enumerate((("made", changed), ("made.npz", place / "made.npz"), ("tiles", shard))):
        seen = place / f"seen{number}"
        look_at_share(place, samples, seen, Share(0, 1))
        kept = file.stat()
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns + 10**9))
        with monkeypatch.context() as patched, pytest.raises(UsageError, match="is of other images"):
            patched.setattr(parts, "look", None)
            look_at_share(place, samples, seen, Share(0, 1))
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
        look_at_share(place, samples, seen, Share(0, 1))
    changed.rename(place / "made" / "rgb_009.png")
    with pytest.raises(UsageError, match="is of other images"):
        look_at_share(place, "made", place / "seen0", Share(0, 1))
    with pytest.raises(UsageError, match="is of other images"):
        look_at_share(place, "tiles", place / "seen2", Share(0, 1), size=8)


def test_parts_of_other_weights_in_a_file_of_the_same_name_are_told(place, monkeypatch):
    look_at_share(place, "made", place / "seen", Share(0, 2))
    other = classifier.load()
    other.params["head"]["bias"] = other.params["head"]["bias"] + 1e-3
    monkeypatch.setattr(classifier, "load", lambda *_: other)
    with pytest.raises(UsageError, match="of other images or another network"):
        look_at_share(place, "made", place / "seen", Share(0, 2))


def test_samples_of_folders_are_in_the_order_of_their_numbers(tmp_path):
    """As in their .npz: rgb_1000 comes behind rgb_101, which decides what the splits of Inception Score are."""
    every = images(0, 4, 8)
    folder = tmp_path / "made"
    for number, image in zip((99, 101, 999, 1000), every, strict=True):
        save(folder, image[None], f"rgb_{number:03d}.png")
    found = np.concatenate(list(image_sets.read(folder, "--samples").batches(range(4))))
    np.testing.assert_array_equal(found, every)


def test_of_folders_of_samples_only_rgb_counts(tmp_path):
    """One folder for each class, beside one of other images: depth and sheets are not taken for images."""
    every, wrong = images(0, 9, 8), images(3, 3, 8)
    for name, start in (("cat", 0), ("dog", 3)):
        folder = save(tmp_path / name, every[start : start + 3], "rgb_{:03d}.png")
        save(folder, wrong, "depth_{:03d}.png")
        save(folder, wrong[:1], "sheet.png")
        (folder / "samples.json").write_text("{}")
    save(tmp_path / "photos", every[6:])
    made = image_sets.read(tmp_path, "--samples")
    assert made.count == 9
    np.testing.assert_array_equal(np.concatenate(list(made.batches(range(9)))), every)


def test_a_data_set_is_a_reference(place, tiles_dir):
    report = run(place, "made.npz", tiles_dir, split="test")
    assert report["reference"]["images"] == 24 and report["reference"]["source"].endswith("split test")
    assert any("32 x 32 pixels and the reference 16 x 16" in line for line in report["warnings"])


def test_images_of_any_size_are_cropped(place):
    save(place / "large", np.pad(images(1, 9), ((0, 0), (0, 0), (16, 16), (0, 0))))
    plain = run(place, "made.npz", "large")
    assert any("64 x 32" in line for line in plain["warnings"])
    cropped = run(place, "made.npz", "large", size=32)
    assert cropped["scores"] == pytest.approx(run(place, "made.npz", "real")["scores"], rel=1e-6)
    assert not any("pixels" in line for line in cropped["warnings"])


@pytest.mark.slow  # roots of matrices of 2,048 rows
def test_inception_gives_all_five_figures(place):
    save_file(random_inception.state(), place / "weights.safetensors")
    small = save(place / "few", images(0, 4)), save(place / "others", images(1, 5))
    report = run(place, *small, inception=place / "weights.safetensors", statistics=place / "statistics.npz")
    assert list(report["scores"]) == ["fid", "sfid", "inception_score", "precision", "recall", *DIVERSITY]
    network = inception_files.load(place / "weights.safetensors")
    seen = [network(images(0, 4)), network(images(1, 5))]
    for name, column in (("fid", 0), ("sfid", 1)):
        a, b = (Moments.of(x[column]).gaussian() for x in seen)
        assert report["scores"][name] == pytest.approx(distance(a, b), rel=1e-6)
    with np.load(place / "statistics.npz") as stored:
        assert {key: stored[key].shape for key in stored} == {
            "network": (32,), "mu": (2048,), "sigma": (2048, 2048), "mu_s": (2023,), "sigma_s": (2023, 2023),
        }  # fmt: skip
    assert "weights.safetensors" in report["protocol"]["network"] and "TensorFlow" in report["protocol"]["resizing"]


def test_what_cannot_be_compared_is_told_before_the_work(place):
    np.savez(place / "wide.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    np.savez(place / "half.npz", mu=np.zeros(128))
    np.savez(place / "shapes.npz", mu=np.zeros(128), sigma=np.eye(5))
    np.savez(place / "nan.npz", mu=np.full(128, np.nan), sigma=np.eye(128))
    np.savez(place / "places.npz", mu_s=np.zeros(4), sigma_s=np.eye(4))
    np.savez(place / "floats.npz", arr_0=np.zeros((4, 8, 8, 3)))
    np.savez(place / "grey.npz", arr_0=np.zeros((4, 8, 8), np.uint8))
    np.savez(place / "empty.npz", arr_0=np.zeros((0, 8, 8, 3), np.uint8))
    np.savez(place / "other.npz", x=np.zeros(3))
    np.savez(place / "three.npz", arr_0=images(0, 3))
    (place / "none").mkdir()
    (place / "broken.npz").write_bytes(b"PK\3\4 no archive")
    for samples, reference, words in (
        ("made.npz", "wide.npz", "has statistics of 2048 features; allowed: 128, those of the bundled classifier"),
        ("made.npz", "half.npz", "has mu, but no sigma"),
        ("made.npz", "shapes.npz", "are (128,) and (5, 5); allowed: (D,) and (D, D)"),
        ("made.npz", "nan.npz", "not finite"),
        ("made.npz", "places.npz", "has no mu and sigma"),
        ("made.npz", "other.npz", "has x; allowed: arr_0, or mu and sigma"),
        ("made.npz", "none", "has no images"),
        ("made.npz", "missing", "--reference"),
        ("made.npz", "broken.npz", "broken.npz"),
        ("wide.npz", "real", "has statistics alone"),
        ("floats.npz", "real", "arr_0 is float64 (4, 8, 8, 3); allowed: uint8 (n, height, width, 3)"),
        ("grey.npz", "real", "arr_0 is uint8 (4, 8, 8)"),
        ("empty.npz", "real", "(0, 8, 8, 3)"),
        ("three.npz", "real", "has 3 images; allowed: at least 4"),
    ):
        with pytest.raises(UsageError) as told:
            run(place, samples, reference)
        assert words in str(told.value), (samples, reference, str(told.value))
    with pytest.raises(UsageError, match="--statistics .* suffix .npz"):
        run(place, "made.npz", "real", statistics=place / "a.txt")
    assert not (place / "report.json").exists()


def test_a_damaged_image_is_named(place):
    (place / "real" / "002.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UsageError, match="002.png"):
        run(place, "made.npz", "real")


def test_rows_of_npz_are_read_in_parts(tmp_path):
    array = np.arange(7 * 3 * 2).reshape(7, 3, 2)
    np.savez_compressed(tmp_path / "a.npz", x=array, y=np.asfortranarray(array))
    entries = Npz(tmp_path / "a.npz")
    assert entries.shape("x") == (7, 3, 2)
    parts = list(entries.rows("x", 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(parts), array)
    with pytest.raises(UsageError, match="one after another"):
        next(entries.rows("y", 3))


def test_statistics_are_written_as_adm_names_them(tmp_path):
    found = Gaussian(np.arange(3.0), np.eye(3))
    image_sets.write_statistics(tmp_path / "s.npz", {"features": found, "spatial": found}, 32 * "ab")
    read = image_sets.read(tmp_path / "s.npz", "--reference")
    assert read.digest == 32 * "ab"
    assert read.count == 0 and list(read.batches(range(0))) == []
    np.testing.assert_array_equal(read.gaussians["spatial"].mean, np.arange(3.0))
