"""The scores of labels against predictions whose errors are known, and the list of those that disagree."""

import numpy as np
import pytest

from mmgen_jax.experts import suspects
from mmgen_jax.experts.suspects import Suspect
from mmgen_jax.metrics import auditing
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.mask import PALETTE, REGIONS
from mmgen_jax.studies import audit as study
from mmgen_jax.system.errors import UsageError

FACTS = Facts(PALETTE, tuple(REGIONS))


def depths(rng, n=120, draws=3, noise=0.02):
    """Labels and draws of depth that are the same surfaces with independent noise."""
    clean = np.clip(rng.random((n, 1, 1)) * 0.5 + 0.25 + np.linspace(-0.1, 0.1, 32), 0, 1) * np.ones((n, 32, 32))
    label = clean + noise * rng.normal(size=clean.shape)
    drawn = clean[:, None] + noise * rng.normal(size=(n, draws, 32, 32))
    return label.astype(np.float32), drawn.astype(np.float32)


def test_labels_like_the_draws_do_not_disagree_in_the_mean(rng):
    label, drawn = depths(rng)
    maps = auditing.disagreement("depth", drawn, label, FACTS)
    assert abs(maps.mean()) < 0.002  # the errors themselves are 0.09
    hole = label.copy()
    hole[:, 3:5] = np.nan
    maps = auditing.disagreement("depth", drawn, hole, FACTS)
    assert (maps[:, 3:5] == 0).all() and np.isfinite(maps).all()


def test_squares_find_the_patch():
    maps = np.zeros((2, 32, 32))
    maps[0, 5:9, 17:21] = 1
    maps[1] = 0.25
    most, corner = auditing.squares(maps)
    np.testing.assert_allclose(most, [[1, 16 / 256, 16 / 1024], [0.25, 0.25, 0.25]], atol=1e-12)
    assert corner[0, 0].tolist() == [5, 17]
    top, left = corner[0, 1]
    assert top <= 5 and top + 16 >= 9 and left <= 17 and left + 16 >= 21
    assert np.isnan(auditing.squares(np.full((1, 8, 8), np.nan))[0]).all()


def test_scores_are_deviations_of_a_normal_distribution(rng):
    most = rng.normal(3, 0.5, size=(20_000, 3))
    most[:500] += 100  # 2.5% of wrong labels do not change what is typical
    deviations = auditing.Typical.of(most).deviations(most[500:])
    np.testing.assert_allclose(deviations.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(deviations.std(0), 1, atol=0.06)


def test_a_patch_is_found_the_better_the_further_it_is_off(rng):
    label, drawn = depths(rng)
    right = auditing.squares(auditing.disagreement("depth", drawn, label, FACTS))[0]
    typical, found = auditing.Typical.of(right), []
    for off in (0.0, 0.02, 0.05, 0.2):
        wrong = label.copy()
        wrong[:, 10:14, 20:24] += off
        scores = typical.score(auditing.squares(auditing.disagreement("depth", drawn, wrong, FACTS))[0])
        found.append(auditing.auroc(typical.score(right), scores))
    assert found[0] == 0.5 and sorted(found) == found and found[-1] > 0.99


def test_corruptions_are_of_the_size_that_they_say(rng):
    normals = rng.normal(size=(5, 8, 8, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    turned = study.tilt(normals, 10, rng)
    angles = np.degrees(np.arccos(np.clip((turned * normals).sum(-1), -1, 1)))
    assert angles.max() == pytest.approx(10, abs=0.3)  # those across the axis; along it nothing turns
    depth = np.full((6, 8, 8), 0.5, np.float32)
    np.testing.assert_allclose(np.abs(study.offset(depth, 5, rng) - depth), 0.05, atol=1e-6)
    numbered = np.arange(4)[:, None, None] * np.ones((4, 8, 8))
    assert ((study.patch(numbered, 4, rng) != numbered).sum((1, 2)) == 16).all()


def test_auroc_of_five_numbers():
    assert auditing.auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0, 0.0])) == pytest.approx((1.5 + 2 + 0) / 6)


def test_the_list_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "suspects.tsv"
    suspects.write(path, [Suspect("depth", "a/b c", 12.3456, 1, 2, 4), Suspect("mask", "ü", 7.0, 0, 0, 32)])
    assert path.read_text().splitlines()[1] == "depth\ta/b c\t12.346\t1\t2\t4"
    assert suspects.read(path) == {"depth": {"a/b c"}, "mask": {"ü"}}
    path.write_text("modality\tkey\nnormal\tx\n")
    assert suspects.read(path) == {"normal": {"x"}}


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "begins with ''; its first line must be modality key score"),
        ("key\tmodality\n", "its first line must be"),
        ("modality\tkey\nsmell\ta\n", "line 2 of .* is 'smell.ta'; it must have a modality, a tab and a key"),
        ("modality\tkey\ndepth\n", "line 2 of"),
        (b"\xff\xfe", "not a text in UTF-8"),
    ],
)
def test_damaged_lists(tmp_path, text, message):
    path = tmp_path / "suspects.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message):
        suspects.read(path)
    with pytest.raises(UsageError, match="does not exist"):
        suspects.read(tmp_path / "none.tsv")
    with pytest.raises(UsageError, match="a tab or a line break"):
        suspects.write(path, [Suspect("depth", "a\tb", 1.0, 0, 0, 1)])
