"""The classifier: it learns, survives the file, and the bundled one knows the rendered scenes."""

import dataclasses
import json
import shutil

import damage
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx

from mmgen_jax.data.shapes.render import render
from mmgen_jax.data.shapes.solids import KINDS
from mmgen_jax.data.shapes.worlds import WORLDS
from mmgen_jax.metrics import classifier, train_classifier
from mmgen_jax.system import sealed
from mmgen_jax.system.errors import NotFinite, UsageError

NAMES = ("dark", "bright")


@pytest.fixture(scope="module")
def trained():
    class_id = np.arange(64) % 2
    rgb = np.random.default_rng(0).integers(0, 60, (64, 8, 8, 3), np.uint8) + (150 * class_id[:, None, None, None])
    rgb = rgb.astype(np.uint8)
    return train_classifier.train(rgb, class_id, NAMES, steps=30, batch=16), rgb, class_id


def test_it_learns_and_is_small(trained):
    model, rgb, class_id = trained
    probabilities = model.predict(rgb)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    assert classifier.accuracy(probabilities, class_id) == 1
    assert sum(leaf.size for leaf in jax.tree.leaves(model.params)) < 100_000


def test_other_sizes_are_resized(trained):
    model, rgb, class_id = trained
    large = rgb.repeat(2, 1).repeat(2, 2)
    assert classifier.accuracy(model.predict(large), class_id) == 1
    assert model.predict(rgb[:0]).shape == (0, 2)


def test_file_keeps_predictions_and_names(trained, tmp_path):
    model, rgb, _ = trained
    model.save(tmp_path / "a" / "c.safetensors")
    loaded = classifier.load(tmp_path / "a" / "c.safetensors")
    assert (loaded.class_names, loaded.size) == (NAMES, 8)
    np.testing.assert_allclose(loaded.predict(rgb), model.predict(rgb), atol=1e-2)


def test_per_class_accuracy_by_hand():
    probabilities = np.eye(3)[[0, 1, 1, 2]]
    scores = classifier.per_class(probabilities, np.array([0, 0, 1, 1]), ("a", "b", "c"))
    assert scores["a"] == scores["b"] == 0.5 and np.isnan(scores["c"])


def test_scenes_without_a_class_count_in_no_accuracy():
    probabilities = np.eye(3)[[0, 1, 1, 2]]
    class_id = np.array([0, -1, 2, -1])
    assert classifier.accuracy(probabilities, class_id) == 0.5
    assert classifier.per_class(probabilities, class_id, ("a", "b", "c")) == {
        "a": 1,
        "b": pytest.approx(np.nan, nan_ok=True),
        "c": 0,
    }
    assert np.isnan(classifier.accuracy(probabilities, np.full(4, -1)))
    assert np.isnan(classifier.accuracy(probabilities[:0], class_id[:0]))


@pytest.mark.parametrize(
    ("probabilities", "class_id", "message"),
    [
        (np.eye(3), np.array([0]), "class_id has shape"),
        (np.eye(3), np.array([0, 1, 3]), "class_id is 0 to 3: must be -1 to 2"),
        (np.eye(3), np.array([0, 1, -2]), "class_id is -2 to 1: must be -1 to 2"),
        (np.full((3, 3), np.nan), np.array([0, 0, 0]), "must be finite"),
    ],
)
def test_what_would_be_a_wrong_accuracy(probabilities, class_id, message):
    with pytest.raises(ValueError, match=message):
        classifier.accuracy(probabilities, class_id)


def test_augmentation_keeps_range_and_shape():
    x = np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    y = train_classifier.augment(jax.random.key(0), x)
    assert y.shape == x.shape and np.abs(y).max() <= 1 and not np.allclose(x, y)


@pytest.mark.parametrize("world", ["single", "rich"])
def test_bundled_ones_know_rendered_scenes(world):
    """The classes of the data set choose the classifier."""
    world = WORLDS[world]
    model = classifier.for_classes(world.class_names)
    scene = render(0, "test", np.arange(6000, 6256), model.size, world=world)
    assert classifier.accuracy(model.predict(scene["rgb"]), scene["class_id"]) > 0.98
    assert classifier.for_classes(world.class_names[::-1]) is None


def test_bundled_ones_are_small_and_classes_of_others_have_none():
    assert all(path.stat().length < 300_000 for path in classifier.BUNDLED.parent.glob("*-classifier.safetensors"))
    assert classifier.for_classes(("cat", "dog")) is None


def test_the_classes_choose_the_classifier(trained, tmp_path, monkeypatch):
    model, rgb, class_id = trained
    model.save(tmp_path / "a-classifier.safetensors")
    other = train_classifier.train(
        rgb.repeat(8, 1).repeat(8, 2), class_id, WORLDS["rich"].class_names, steps=1, batch=2
    )
    other.save(tmp_path / "b-classifier.safetensors")
    monkeypatch.setattr(classifier, "_ASSETS", epath.Path(tmp_path))
    assert classifier.for_classes(NAMES).size == 8
    assert classifier.for_classes(list(WORLDS["rich"].class_names)).size == 64
    assert classifier.for_classes(KINDS) is None


@pytest.mark.parametrize(
    ("size", "strides"), [(8, (2, 1, 2, 1)), (32, (2, 1, 2, 1)), (64, (2, 2, 1, 2, 1)), (512, (2, 2, 2, 1, 2, 1))]
)
def test_larger_images_are_seen_by_more_convolutions(size, strides):
    net = classifier.ConvNet(3, size, nnx.Rngs(0))
    assert tuple(conv.strides for conv in net.convs) == strides
    assert net(jnp.zeros((2, min(size, 64), min(size, 64), 3))).shape == (2, 3)


def test_blurred_images_have_gone_through_few_pixels():
    """Flat images and slow ramps stay; what is as fine as pixels becomes its mean."""
    flat = np.full((1, 64, 64, 3), 77, np.uint8)
    np.testing.assert_array_equal(train_classifier.blurred(flat), flat)
    ramp = np.broadcast_to((2 * np.arange(64, dtype=np.uint8))[:, None], (1, 64, 64))[..., None].repeat(3, -1)
    inside = np.s_[:, 8:-8, 8:-8]
    assert np.abs(train_classifier.blurred(ramp)[inside].astype(int) - ramp[inside]).max() <= 1
    checks = (255 * (np.indices((64, 64)).sum(0) % 2))[None, ..., None].repeat(3, -1).astype(np.uint8)
    assert np.abs(train_classifier.blurred(checks).astype(int) - 127.5).max() < 4


def test_images_that_have_lost_their_details_are_no_class(tmp_path):
    """The details are grain."""
    class_id = np.arange(96) % 2
    noise = np.random.default_rng(0).integers(0, 150, (96, 64, 64, 3), np.uint8)
    rgb = (noise + 100 * class_id[:, None, None, None]).astype(np.uint8)
    model = train_classifier.train(rgb, class_id, NAMES, steps=120, batch=16)
    assert model.soft and model.outputs == 3 and model.predict(rgb[:2]).shape == (2, 3)
    assert classifier.accuracy(model.predict(rgb), class_id) > 0.9
    assert classifier.accuracy(model.predict(train_classifier.blurred(rgb)), class_id) < 0.1
    model.save(tmp_path / "c.safetensors")
    loaded = classifier.load(tmp_path / "c.safetensors")
    assert loaded.soft and loaded.predict(rgb[:2]).shape == (2, 3)


def test_softening_leaves_most_images_as_they_are():
    rng = np.random.default_rng(0)
    x, labels = rng.uniform(-1, 1, (16, 64, 64, 3)).astype(np.float32), np.zeros(16, int)
    soft, told = train_classifier.softened(x, labels, 5)
    assert told.tolist() == [5] * 4 + [0] * 12
    changed = np.abs(np.asarray(soft) - x).max((1, 2, 3)) > 0.1
    assert changed.tolist() == [True] * 6 + [False] * 10
    deviations = np.asarray(soft).std((1, 2, 3))
    assert deviations[0] < deviations[2] < deviations[4] < deviations[6]


def test_what_is_needed_is_checked_before_training(tiles_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(train_classifier, "train", None)
    with pytest.raises(UsageError, match="--out .* is a folder"):
        train_classifier.run(tiles_dir, str(tmp_path), 8, 1, 0)
    (info,) = shutil.copytree(tiles_dir, tmp_path / "data").rglob("dataset_info.json")
    stored = json.loads(info.read_text())
    stored["splits"] = [split for split in stored["splits"] if split["name"] == "train"]
    info.write_text(json.dumps(stored))
    (info.parent / sealed.FILE).unlink()
    with pytest.raises(UsageError, match="split 'test' is not in"):
        train_classifier.run(str(tmp_path / "data"), str(tmp_path / "c.safetensors"), 8, 1, 0)


def test_command_trains_and_writes(tiles_dir, tmp_path, capsys):
    share = train_classifier.run(tiles_dir, str(tmp_path / "new" / "c.safetensors"), 32, 2, 0)
    assert 0 <= share <= 1 and "accuracy on 24 test scenes" in capsys.readouterr().out
    assert classifier.load(tmp_path / "new" / "c.safetensors").class_names == KINDS


def test_a_flipped_bit_of_the_bundled_one_is_named(tmp_path):
    shutil.copy(classifier.BUNDLED, tmp_path)
    lines = (classifier.BUNDLED.parent / sealed.FILE).read_text().splitlines(keepends=True)
    own = [line for line in lines if classifier.BUNDLED.name in line]  # damage to those of others says nothing of it
    (tmp_path / sealed.FILE).write_text("".join(own))
    for name in (classifier.BUNDLED.name, sealed.FILE):
        for _ in damage.flips(tmp_path / name, 20):
            with pytest.raises(UsageError, match=name):
                classifier.load(tmp_path / classifier.BUNDLED.name)
    classifier.load(tmp_path / classifier.BUNDLED.name)


def test_error_messages(trained, tmp_path):
    with pytest.raises(ValueError, match=r"rgb is float64 \(1, 8, 8, 3\): must be uint8"):
        trained[0].predict(np.zeros((1, 8, 8, 3)))
    with pytest.raises(UsageError, match="no such file"):
        classifier.load(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(UsageError, match="is damaged"):
        classifier.load(tmp_path / "broken.safetensors")
    other = classifier.Classifier({"head": {"bias": np.zeros(3)}}, KINDS, 8)
    other.save(tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match=r"other.safetensors' does not fit the model: missing .*; misshapen head.bias"):
        classifier.load(tmp_path / "other.safetensors")


def test_weights_that_are_not_numbers_are_no_accuracy(trained):
    model, rgb, _ = trained
    broken = dataclasses.replace(model, params=jax.tree.map(lambda x: x * np.nan, model.params))
    with pytest.raises(NotFinite, match="the classifier's probabilities are NaN"):
        broken.predict(rgb)
