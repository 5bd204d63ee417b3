"""What is there is changed: partial noising, noise that is passed, from Python and from the command line."""

import numpy as np
import pytest
import tiny_model
from annotations import unchecked
from PIL import Image

from mmgen_jax import MMGen, sample
from mmgen_jax.sampling import slerp
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
        ({"via": ("depth",)}, "via is 'depth', but nothing is given that it could be read from"),
        ({"via": ("rgb",), "given": ("rgb",)}, "via is 'rgb', but rgb is given; allowed: what is not given"),
        ({"via": "depth", "given": ("rgb",)}, "via is 'depth'; allowed: a list of some of rgb, depth, normal, mask"),
        ({"via": ("red",), "given": ("rgb",)}, "via modality is 'red'; allowed: rgb, depth, normal, mask"),
        (
            {"via": ("depth",), "given": ("rgb", "mask"), "keep": {"mask": np.ones((16, 16), bool)}},
            "via is 'depth'; allowed: empty, as a part of mask is kept",
        ),
        ({"via": ("depth",), "given": ("rgb",), "wanted": ("depth",)}, "wanted is 'depth', but depth is given"),
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


def test_samples_come_back_from_their_noise(model):
    """With random weights the flow is steep, so latents are compared, after many steps."""
    values = {m: x for m, x in tiny_model.values(2).items() if m in ("rgb", "depth")}
    given, class_id = {"mask": tiny_model.values(2)["mask"]}, ["torus", 2]
    z = model.invert(values, given, class_id, steps=40, batch=1)
    assert {m: x.shape for m, x in z.items()} == model.architecture.latent_shapes(2)
    own = model.noise(0, 2)
    for m in own:  # what is given and what is ignored were held with the noise of the seed
        assert (m in values) != np.array_equal(z[m], own[m])
    back = model.generate(class_id, 2, given, noise=z, wanted=tuple(values), solver="midpoint", steps=60, seed=5)
    target = model.decode(model.encode(values))
    for m in values:
        assert np.abs(back[m].astype(float) - target[m]).mean() < 0.02 * np.ptp(target[m].astype(float)), m


def test_noise_of_a_seed_is_what_generate_draws(model):
    plain = model.generate(n=[1, 4], seed=3, **FAST)
    passed = model.generate(n=[0, 1], noise=model.noise(3, [1, 4]), seed=9, **FAST)
    for m in plain:
        np.testing.assert_array_equal(passed[m], plain[m])


def test_geometry_is_read_and_made_from(model):
    rgb = tiny_model.values(2)["rgb"]
    out = model.generate("torus", 2, {"rgb": rgb}, via=("depth", "normal"), wanted=("rgb",), seed=1, **FAST)
    assert list(out) == ["rgb", "depth", "normal"] and out.given == ("depth", "normal")
    assert "given depth + normal, as read from other modalities; rgb alone; class torus" in out.caption
    np.testing.assert_array_equal(out.source["rgb"], rgb)
    read = model.generate(n=2, given={"rgb": rgb}, solver="euler", steps=4, temperature=0, seed=1)
    np.testing.assert_array_equal(read["depth"], out["depth"])
    two = model.generate("torus", 2, {m: read[m] for m in out.given}, wanted=("rgb",), seed=1, **FAST)
    np.testing.assert_array_equal(two["rgb"], out["rgb"])
    assert list(out.pictures())[0] == "rgb before" and out.sheet().ndim == 3
    one = model.generate(n=2, given={"rgb": rgb[0]}, via=("depth",), start={"rgb": rgb[0]}, **FAST)  # one for all
    np.testing.assert_array_equal(one["depth"][0], one["depth"][1])
    whole = model.generate(n=1, given={"rgb": np.zeros((24, 16, 3), "u1")}, via=("depth",), whole=1, **FAST)
    assert whole["rgb"].shape == (1, 24, 16, 3) and whole["depth"].shape == (1, 24, 16)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda m, v: m.noise(-1), "seed is -1; it must be an integer of at least 0"),
        (lambda m, v: m.noise(0, 0), "n is 0; it must be an integer of at least 1"),
        (lambda m, v: m.noise(0, [-1]), "n is .*; it must be a number of samples, or a list of their numbers"),
        (lambda m, v: m.invert({}), r"values is \{\}; allowed: a dict"),
        (lambda m, v: m.invert({"red": v["rgb"]}), "modality of values is 'red'"),
        (lambda m, v: m.invert({"rgb": v["rgb"]}, {"rgb": v["rgb"]}), "rgb is in values and in given; allowed: one"),
        (lambda m, v: m.invert({"rgb": v["rgb"]}, class_id="cow"), "cow"),
        (lambda m, v: m.invert({"rgb": v["rgb"]}, steps=0), "steps is 0; it must be an integer of at least 1"),
        (lambda m, v: m.invert({"rgb": v["rgb"]}, given_time=2), "given_time is 2; it must be a number 0 to 1"),
        (lambda m, v: m.invert({"rgb": v["rgb"]}, seed=0.5), "seed is 0.5; it must be an integer"),
        (lambda m, v: m.invert({"rgb": v["rgb"]}, batch="1"), "batch is '1'; it must be an integer"),
    ],
)
def test_bad_inversions_are_named_in_one_line(model, call, message):
    with unchecked(), pytest.raises(UsageError, match=message) as caught:
        call(model, tiny_model.values(2))
    assert "\n" not in str(caught.value)


def test_command_inverts_and_goes_from_seed_to_seed(model, model_dir, model_config, tmp_path):
    section, values = model_config.sample, tiny_model.values(2)
    for name in ("rgb", "other"):
        Image.fromarray(values["rgb"][int(name == "other")]).save(tmp_path / f"{name}.png")
    section.n, section.to_seed, section.solver, folder = 3, 4, "euler", tmp_path / "way"

    def made(folder, i, m="rgb"):
        return np.asarray(Image.open(folder / f"{m}_{i:03d}.png"))

    sample.run(model_config, str(model_dir), str(folder))
    for i, seed in ((0, section.seed), (2, 4)):
        end = model.generate(n=1, seed=seed, solver="euler", steps=2, noise=model.noise(seed))
        np.testing.assert_array_equal(made(folder, i), end["rgb"][0])
    assert (made(folder, 1) != made(folder, 0)).any()
    section.n = 4  # other steps on the way
    with pytest.raises(UsageError, match="sample.n"):
        sample.run(model_config, str(model_dir), str(folder))
    section.n, section.to_seed, section.invert.rgb, section.wanted = 1, -1, str(tmp_path / "rgb.png"), "rgb"
    section.invert_class = "torus"
    sample.run(model_config, str(model_dir), str(tmp_path / "back"))
    z = model.invert({"rgb": values["rgb"][0]}, class_id="torus")
    same = model.generate(n=1, noise=z, wanted=("rgb",), solver="euler", steps=2)
    np.testing.assert_array_equal(made(tmp_path / "back", 0), same["rgb"][0])
    section.n, section.invert_to.rgb = 3, str(tmp_path / "other.png")
    sample.run(model_config, str(model_dir), str(tmp_path / "between"))
    ends = [model.invert({"rgb": x}, class_id="torus") for x in values["rgb"]]
    for i in range(3):
        noise = slerp(*ends, i / 2)
        same = model.generate(n=1, noise=noise, wanted=("rgb",), solver="euler", steps=2)
        np.testing.assert_allclose(made(tmp_path / "between", i).astype(int), same["rgb"][0], atol=1)
    section.n = 4
    with pytest.raises(UsageError, match="sample.n"):
        sample.run(model_config, str(model_dir), str(tmp_path / "between"))
    section.n, section.invert_to.rgb = 1, ""
    for changed, message in (
        ({"wanted": "depth"}, "sample.invert.rgb is .*; allowed: empty, as rgb is not made"),
        ({"start": {"rgb": str(tmp_path / "rgb.png")}}, "sample.invert.rgb is .*; allowed: empty, as rgb has a start"),
        ({"invert": {"rgb": ""}}, "sample.invert_class is 'torus', but nothing is in sample.invert"),
        ({"invert_class": "cow"}, "cow"),
        ({"to_seed": 3}, "sample.to_seed is 3; allowed: -1, as files are inverted"),
        ({"to_seed": 3, "invert": {"rgb": ""}, "invert_class": ""}, "sample.to_seed is 3, which needs sample.n of at"),
        (
            {"solver": "euler_maruyama"},
            "sample.solver is 'euler_maruyama', which draws noise; sample.invert needs",
        ),
        ({"draws": 2}, "draws is 2; allowed: 1, as noise is passed"),
        ({"invert_to": {"rgb": str(tmp_path / "other.png")}}, "invert_to.rgb is .*other.png', which needs sample.n of"),
        (
            {"invert_to": {"rgb": str(tmp_path / "other.png")}, "invert": {"rgb": ""}, "invert_class": ""},
            "sample.invert_to.rgb is set, and sample.invert.rgb is empty; allowed: both or none",
        ),
    ):
        other = model_config.copy_and_resolve_references()
        other.sample.update(changed)
        with pytest.raises(UsageError, match=message):
            sample.run(other, str(model_dir), str(tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_command_translates(model, model_dir, model_config, tmp_path):
    section, rgb = model_config.sample, tiny_model.values(1)["rgb"]
    Image.fromarray(rgb[0]).save(tmp_path / "photo.png")
    section.n, section.given.rgb, section.via, section.wanted = 2, str(tmp_path / "photo.png"), "depth", "rgb"
    sample.run(model_config, str(model_dir), str(tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").glob("*_001.*")) == ["depth_001.png", "rgb_001.png"]
    section.keep.rgb = str(tmp_path / "photo.png")
    Image.fromarray(np.uint8([[0, 255]])).resize((16, 16)).save(tmp_path / "photo.png")
    with pytest.raises(UsageError, match="via is 'depth'"):
        sample.run(model_config, str(model_dir), str(tmp_path / "none"))


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
    with pytest.raises(UsageError, match=r"^config key sample.start.depth is '.*nowhere.png': start depth \(.*nowhere"):
        sample.run(model_config, str(model_dir), str(tmp_path / "none"))
