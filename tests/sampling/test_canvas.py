"""Whole images through a model of one size, and back to their own."""

import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import sample
from mmgen_jax.api import MMGen
from mmgen_jax.sampling import canvas
from mmgen_jax.system.errors import UsageError

FAST = {"steps": 2, "solver": "euler"}


@pytest.fixture(scope="module")
def model(model_dir):
    return MMGen.load(model_dir)


@pytest.fixture
def photo(rng):
    return rng.integers(0, 256, (24, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "scale", "expected"),
    [((100, 100), 1, (16, 16)), ((24, 50), 1, (16, 32)), ((50, 24), 2, (68, 32)), ((7, 7), 3, (48, 48))],
)
def test_the_shorter_side_is_so_many_times_the_models(shape, scale, expected):
    assert canvas.size(*shape, scale, tiny_model.build()[0]) == expected


def test_what_is_made_has_the_size_of_the_photo(model, photo):
    out = model.generate(n=2, given={"rgb": photo}, whole=True, draws=2, batch=4, **FAST)
    np.testing.assert_array_equal(out["rgb"], np.stack([photo, photo]))
    assert out["depth"].shape == out["mask"].shape == out.uncertainty["normal"].shape == (2, 24, 50)
    np.testing.assert_allclose(np.linalg.norm(out["normal"], axis=-1), 1, atol=1e-5)
    assert out.draws["depth"].shape == (2, 2, 16, 32)
    assert all(picture.shape == (2, 24, 50, 3) for picture in out.pictures().values())


def test_a_square_photo_of_the_models_size_is_todays_path(model):
    rgb = tiny_model.values(2)["rgb"]
    plain, whole = (model.generate(n=2, given={"rgb": rgb}, whole=w, **FAST, draws=2) for w in (0, 1))
    for m in ("depth", "normal", "mask"):
        np.testing.assert_array_equal(whole.draws[m], plain.draws[m])


def test_bad_requests_are_one_line(model, photo):
    with pytest.raises(UsageError, match=r"whole is 1, but nothing is given whose size"):
        model.generate(whole=1, **FAST)
    given = {"rgb": photo, "depth": np.zeros((24, 24), np.float32)}
    with pytest.raises(UsageError, match=r"given depth has 24x24 pixels, given rgb has 50x24; with whole = 1"):
        model.generate(given=given, whole=1, **FAST)
    with pytest.raises(UsageError, match=r"whole is 0.5; it must be a number 1 to 64, or 0"):
        model.generate(given={"rgb": photo}, whole=0.5, **FAST)


def test_files_of_the_command_have_the_size_of_the_photo(model_config, model_dir, photo, tmp_path):
    Image.fromarray(photo).save(tmp_path / "photo.png")
    model_config.sample.update({"n": 1, "steps": 1, "whole": 1.0})
    model_config.sample.given.rgb = str(tmp_path / "photo.png")
    target = sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    for name in ("rgb", "depth", "normal", "mask"):
        with Image.open(target / f"{name}_000.png") as image:
            assert image.size == (50, 24)
