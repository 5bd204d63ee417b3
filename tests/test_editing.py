"""What is there is changed: partial noising, noise that is passed, from Python and from the command line."""

import numpy as np
import pytest
import tiny_model
from annotations import unchecked
from PIL import Image

from mmgen_jax import MMGen, sample
from mmgen_jax.system.errors import UsageError

FAST = {"steps": 2, "solver": "euler"}


@pytest.fixture(scope="module")
def model():
    return MMGen(*tiny_model.build())


def noise(model, count):
    rng = np.random.default_rng(0)
    return {m: rng.normal(size=shape).astype("f") for m, shape in model.architecture.latent_shapes(count).items()}


def test_a_start_is_kept_at_time_zero_and_gone_at_one(model):
    rgb = tiny_model.values(2)["rgb"]
    plain = model.generate(n=2, **FAST)
    kept = model.generate(n=2, start={"rgb": rgb}, start_time=0, **FAST)
    np.testing.assert_array_equal(kept["rgb"], model.decode(model.encode({"rgb": rgb}))["rgb"])
    compiled = model._sampler._draw._cache_size()
    gone = model.generate(n=2, start={"rgb": rgb}, start_time=1, **FAST)
    for m in plain:
        np.testing.assert_array_equal(gone[m], plain[m])
    half = model.generate(n=2, start={"rgb": rgb}, start_time=0.5, **FAST)
    assert (half["rgb"] != kept["rgb"]).any() and (half["rgb"] != plain["rgb"]).any()
    assert model._sampler._draw._cache_size() == compiled  # another time compiles nothing
    assert "all modalities together, from rgb at t = 0.5" in half.caption and half.given == ()
    one = model.generate(n=2, start={"rgb": rgb[:1]}, start_time=0.5, **FAST)
    np.testing.assert_array_equal(one["rgb"][0], half["rgb"][0])


def test_noise_that_is_passed_takes_the_place_of_what_is_drawn(model):
    z = noise(model, 2)
    one, other = (model.generate(n=2, noise=z, seed=seed, **FAST) for seed in (0, 1))
    for m in one:
        np.testing.assert_array_equal(one[m], other[m])
    partly = model.generate(n=2, noise={"depth": z["depth"][:1]}, **FAST)
    assert any((partly[m] != one[m]).any() for m in one)


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"start": {"red": 0}}, "modality of start is 'red'; allowed: rgb, depth, normal, mask"),
        ({"start": ["rgb"]}, "start is of type list; allowed: a dict of modality -> file or array"),
        ({"start": {"rgb": "nowhere.png"}}, r"start rgb \(nowhere.png\)"),
        ({"start": {"rgb": np.zeros((3, 16, 16, 3), "u1")}}, "start rgb has 3 images; allowed: 1, or n = 2"),
        ({"start": ("rgb",), "given": ("rgb",)}, "rgb is in start and is given; allowed: one of both"),
        ({"start": ("rgb",), "wanted": ("depth",)}, "wanted is 'depth'; it must have rgb, which has a start"),
        ({"start": ("rgb",), "start_time": 1.5}, "start_time is 1.5; it must be a number 0 to 1"),
        ({"start_time": 0.3}, "start_time is 0.3, but nothing has a start"),
        ({"start": ("rgb",), "whole": 1, "given": ("depth",)}, "whole is 1; allowed: 0, as rgb has a start"),
        ({"start": ("rgb",), "particles": 2}, "particles is 2; allowed: 1, as rgb has a start"),
        ({"noise": {}}, r"noise is \{\}; allowed: a dict of modality -> array"),
        ({"noise": {"red": 0}}, "modality of noise is 'red'; allowed: rgb"),
        ({"noise": {"rgb": np.zeros((2, 4, 4, 3))}}, r"noise of rgb has shape \[2, 4, 4, 3\]; allowed: \[B, 4, 4, 6\]"),
        ({"noise": {"rgb": np.zeros((3, 4, 4, 6))}}, "noise of rgb has 3 samples; allowed: 1, or n = 2"),
        ({"noise": {"rgb": np.full((1, 4, 4, 6), np.inf)}}, "noise of rgb has NaN or infinity; allowed: finite"),
        ({"noise": {"rgb": np.zeros((2, 4, 4, 6))}, "draws": 2}, "draws is 2; allowed: 1, as noise is passed"),
        (
            {"noise": {"rgb": np.zeros((2, 4, 4, 6))}, "whole": 1, "given": ("depth",)},
            "whole is 1; allowed: 0, as noise is passed",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_requests_are_named_in_one_line(model, request_, message):
    values = tiny_model.values(2)
    request_ = {
        name: {m: values[m] for m in value} if name in ("start", "given") and isinstance(value, tuple) else value
        for name, value in request_.items()
    }
    with unchecked(), pytest.raises(UsageError, match=message) as caught:
        model.generate(n=2, **FAST | request_)
    assert "\n" not in str(caught.value)


def test_command(model_dir, model_config, tmp_path):
    section = model_config.sample
    Image.fromarray(tiny_model.values(1)["rgb"][0]).save(tmp_path / "photo.png")
    section.n, section.start.rgb, section.start_time = 2, str(tmp_path / "photo.png"), 0.0
    sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    made = np.stack([np.asarray(Image.open(tmp_path / "out" / f"rgb_{i:03d}.png")) for i in range(2)])
    np.testing.assert_array_equal(made[0], made[1])
    Image.fromarray(255 - tiny_model.values(1)["rgb"][0]).save(tmp_path / "photo.png")
    with pytest.raises(UsageError, match="the start of rgb"):
        sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    section.start.rgb, section.start.depth = "", str(tmp_path / "nowhere.png")
    with pytest.raises(UsageError, match=r"start depth \(.*nowhere.png\)"):
        sample.run(model_config, str(model_dir), str(tmp_path / "none"))
