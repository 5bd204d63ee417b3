"""The networks by which generated images are compared, and what is told of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmgen_jax.data.shapes import builder
from mmgen_jax.frozen import dino
from mmgen_jax.frozen.resample import bicubic, offset_bicubic
from mmgen_jax.metrics import classifier, generation, judges
from mmgen_jax.metrics.gaussians import Moments, distance
from mmgen_jax.system.errors import UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = GOLDEN / "tiny_dino"


def images(seed: int, count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture
def place(tmp_path):
    np.savez(tmp_path / "made.npz", arr_0=images(0, 8))
    np.savez(tmp_path / "real.npz", arr_0=images(1, 9))
    return tmp_path


def run(place, **more):
    compared = generation.Compared(place / "made.npz", place / "real.npz", **more)
    return generation.run(compared, place / "report.json")


def test_dino_is_that_of_transformers():
    """Resized by Pillow, and the pooler's output; transformers resizes positions without the tenth of a patch."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs = transformers.Dinov2Model.from_pretrained(TINY).eval()
    rgb = images(0, 3, 256)
    small = np.stack([np.asarray(Image.fromarray(x).resize((224, 224), Image.Resampling.BICUBIC)) for x in rgb])
    pixels = ((small / 255 - dino.MEAN) / dino.STD).astype(np.float32).transpose(0, 3, 1, 2)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(pixels)).pooler_output.numpy()
    judge = judges.load(dino_path=TINY)
    assert judge.weights.resample is offset_bicubic
    plain = dataclasses.replace(judge, weights=dataclasses.replace(judge.weights, resample=bicubic))
    np.testing.assert_allclose(plain(rgb).features, expected, atol=5e-5)
    assert 0 < np.abs(judge(rgb).features - expected).max() < 0.2 * expected.std()


def test_dino_gives_its_distance_and_no_inception_score(place, capsys):
    report = run(place, dino=TINY)
    assert list(report["scores"]) == ["fd_dinov2", "precision", "recall", "diversity", "diversity_reference"]
    judge = judges.load(dino_path=TINY)
    a, b = (Moments.of(judge(x).features).gaussian() for x in (images(0, 8), images(1, 9)))
    assert report["scores"]["fd_dinov2"] == pytest.approx(distance(a, b), rel=1e-6)
    told = capsys.readouterr().out
    assert "DINOv2 of tiny_dino: width 24, depth" in told and "bicubic resizing with antialiasing to 224 x 224" in told
    assert (
        "the network has no classes" in told and "FD-DINOv2 far too large" in told and "Inception Score of" not in told
    )


def test_one_network_at_a_time(place):
    with pytest.raises(UsageError, match="--inception is a.pth and --dino is b; allowed: one network"):
        run(place, inception="a.pth", dino="b")
    with pytest.raises(UsageError, match="missing"):
        run(place, dino=place / "missing")
    np.savez(place / "real.npz", mu=np.zeros(128), sigma=np.eye(128))
    with pytest.raises(UsageError, match="128 features; allowed: 24, those of the DINOv2 of tiny_dino"):
        run(place, dino=TINY)


def test_the_classes_choose_the_classifier(place, tmp_path, capsys):
    """Those of the reference, else those of the samples; without any it is the one of shapes."""
    builder.build(str(tmp_path / "rich"), builder.Recipe(size=64, train=4, test=4), scenes="rich")
    rich, made = tmp_path / "rich", place / "made.npz"
    for compared, words in (
        (
            generation.Compared(made, rich),
            "bundled classifier rich, of 9 classes and images without details; not to be",
        ),
        (generation.Compared(rich, made), "bundled classifier rich"),
        (generation.Compared(made, made), "bundled classifier shapes, of 8 classes; not to be compared with published"),
        (generation.Compared(made, rich, classifier="shapes"), "bundled classifier shapes"),
        (
            generation.Compared(made, rich, classifier=classifier.BUNDLED),
            "classifier shapes-classifier.safetensors, of 8",
        ),
    ):
        report = generation.run(compared, place / "report.json")
        assert (
            words in report["protocol"]["network"]
            and f"network: {report['protocol']['network']}" in capsys.readouterr().out
        )


def test_statistics_know_their_network(place):
    """Two classifiers have equally many features; files of other programs do not tell."""
    made, real, stored = place / "made.npz", place / "real.npz", place / "stored.npz"
    first = generation.run(generation.Compared(made, real, classifier="rich"), place / "report.json", statistics=stored)
    with pytest.raises(
        UsageError, match="stored.npz has statistics of another network .* than the bundled classifier shapes"
    ):
        generation.run(generation.Compared(made, stored), place / "report.json")
    second = generation.run(generation.Compared(made, stored, classifier="rich"), place / "report.json")
    assert second["scores"]["fid"] == pytest.approx(first["scores"]["fid"], rel=1e-9)
    with np.load(stored) as arrays:
        np.savez(place / "foreign.npz", mu=arrays["mu"], sigma=arrays["sigma"])
    generation.run(generation.Compared(made, place / "foreign.npz"), place / "report.json")


def test_a_classifier_that_is_not_there_is_told(place):
    with pytest.raises(
        UsageError, match="--classifier is 'large', which is not there; allowed: rich, shapes, or a file"
    ):
        run(place, classifier="large")
    (place / "other.safetensors").write_bytes(b"no")
    with pytest.raises(UsageError, match="other.safetensors.* is damaged or not a classifier"):
        run(place, classifier=place / "other.safetensors")
    with pytest.raises(UsageError, match="--dino is b and --classifier is rich; allowed: one network"):
        run(place, dino="b", classifier="rich")
