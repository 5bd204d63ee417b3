"""Guides of whole requests: from Python and from the command line, with bad requests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import tiny_model
from annotations import unchecked
from PIL import Image

from mmgen_jax import MMGen, sample
from mmgen_jax.frozen.autoencoders.protocol import clipped
from mmgen_jax.modalities.registry import MODALITIES
from mmgen_jax.sampling import guides
from mmgen_jax.sampling.training_free import Images
from mmgen_jax.system.errors import NotFinite, UsageError

FAST = {"steps": 3, "solver": "euler"}
ROWS = np.array([[2, 3, 0.9], [12, 3, 0.1], [7, 14, 0.5]])
LEFT = np.arange(16) < 8
SQUARE = np.broadcast_to(LEFT, (16, 16))


@pytest.fixture(scope="module")
def model(model_dir):
    return MMGen.load(str(model_dir))


def off(depth, rows):
    return np.abs(depth[rows[:, 1].astype(int), rows[:, 0].astype(int)] - rows[:, 2]).mean()


def test_points_lead_and_other_numbers_compile_nothing(model):
    plain = model.generate(n=2, **FAST)
    out = model.generate(n=2, guide=guides.points("depth", ROWS), **FAST)
    assert out.caption.endswith("guided through the network") and set(out) == set(plain)
    for i in range(2):
        assert off(out["depth"][i], ROWS) < 0.5 * off(plain["depth"][i], ROWS)
    compiled = model._sampler._draw._cache_size()
    other = ROWS[:, [1, 0, 2]] * [1, 1, 0.5]
    led = model.generate(n=2, guide=guides.points("depth", other, 0.1), guide_weight=0.5, seed=3, **FAST)
    assert model._sampler._draw._cache_size() == compiled
    assert off(led["depth"][0], other) < off(plain["depth"][0], other)


def test_each_sample_may_have_points_of_its_own(model):
    both = np.stack([ROWS, ROWS * [1, 1, 0.3]])
    options = {"guide_through": "decoder", "draws": 2, **FAST}
    out = model.generate(n=2, guide=guides.points("depth", both), **options)
    alone = model.generate(n=[1], guide=guides.points("depth", both[1]), **options)
    np.testing.assert_allclose(out["depth"][1], alone["depth"][0], atol=1e-5)


def test_a_function_compiles_once_and_composes_with_all_else(model):
    seen = []

    def red(images):
        seen.append({m: images[m].shape for m in images})
        return jnp.square((images["rgb"][..., 0].mean((1, 2)) - 0.9) / 0.02) / 2

    given = {"depth": np.full((16, 16), 0.5, np.float32)}
    more = {"given": given, "wanted": ("rgb", "normal"), "strength": {"depth": 0.5}, "compose": True}
    options = {"class_id": 0, "n": 2, "temperature": 0.5, "corrector": 1, **more, **FAST}
    plain, out = (model.generate(guide=guide, **options) for guide in (None, red))
    assert abs(out["rgb"][..., 0].mean() / 255 - 0.9) < abs(plain["rgb"][..., 0].mean() / 255 - 0.9)
    assert seen[0] == {"rgb": (2, 16, 16, 3), "normal": (2, 16, 16, 3)}
    compiled = model._sampler._draw._cache_size()
    model.generate(guide=red, **options | {"seed": 1})
    assert model._sampler._draw._cache_size() == compiled


def test_a_region_gets_its_colour_beside_what_is_kept(model):
    guide = guides.Together((guides.region("rgb", SQUARE, (0.9, 0.5, 0.1)), guides.points("normal", [[1, 1, 0, 0, 1]])))
    rgb = np.full((16, 16, 3), 128, np.uint8)
    options = {"n": 2, "given": {"rgb": rgb}, "keep": {"rgb": ~SQUARE}, **FAST}
    plain, out = (model.generate(guide=g, **options) for g in (None, guide))
    colour = [x["rgb"][:, SQUARE].mean((0, 1)) / 255 - (0.9, 0.5, 0.1) for x in (plain, out)]
    assert np.abs(colour[1]).sum() < np.abs(colour[0]).sum()
    np.testing.assert_array_equal(out["rgb"][:, ~SQUARE], np.broadcast_to(rgb[~SQUARE], (2, 128, 3)))


def test_losses_see_values_before_they_are_rounded(model):
    facts, rng = model.architecture.facts, np.random.default_rng(0)
    for m, modality in MODALITIES.items():
        array = rng.uniform(-1, 1, (2, 4, 4, modality.channels)).astype(np.float32)
        found, value = modality.differentiable(array), modality.value(array, facts)
        if m == "mask":
            found, value = np.rint(255 * found), np.rint(127.5 * (array + 1))
        np.testing.assert_allclose(found, value / 255 if value.dtype == np.uint8 else value, atol=2e-3)
        assert np.isfinite(
            jax.grad(lambda x, kind=modality: kind.differentiable(x).sum())(jnp.zeros((1, 1, 1, 3)))
        ).all()


def test_what_is_beyond_the_range_of_images_is_led_back():
    assert clipped(jnp.array([-2.0, 0.5, 2.0])).tolist() == [-1, 0.5, 1]
    assert jax.grad(lambda x: clipped(x).sum())(jnp.array([-2.0, 0.5, 2.0])).tolist() == [1, 1, 1]


def constant(value):
    return lambda images: value


@dataclasses.dataclass
class Mutable:
    """A callable without a hash."""

    factor: float = 1.0

    def __call__(self, images):
        return images["rgb"].sum((1, 2, 3))


BAD = {
    "no function": (3, {}, "guide is 3; allowed: a function of images that returns a loss"),
    "raises": (lambda images: 1 / 0, {}, r"guide raises ZeroDivisionError \(division by zero\); allowed: a function"),
    "another modality": (lambda images: images["sound"], {}, "guide looks at 'sound'; made: rgb, depth, normal, mask"),
    "not wanted": (lambda i: i["rgb"].sum((1, 2, 3)), {"wanted": ("depth",)}, "guide looks at 'rgb'; made: depth"),
    "not traceable": (lambda i: np.asarray(i["depth"]).sum((1, 2)), {}, "guide raises TracerArrayConversionError"),
    "one number": (lambda i: i["depth"].sum(), {}, r"a loss of shape \[\] for 2 samples; allowed: \[2\]"),
    "a map": (lambda i: i["depth"], {}, r"a loss of shape \[2, 16, 16\] for 2 samples; allowed: \[2\]"),
    "text": (constant("a"), {}, "guide raises "),
    "nothing": (constant(None), {}, "guide raises "),
    "a constant": (constant(0.0), {}, r"guide returns a loss of shape \[\] for 2 samples; allowed: \[2\]"),
    "no hash": (Mutable(), {}, "guide of type Mutable has no hash; allowed: a function"),
    "points beside": (guides.points("depth", [[16, 0, 0.5]]), {}, "points of depth have x = 16; allowed: 0 to 15"),
    "points below": (guides.points("depth", [[0, 99, 0.5]]), {}, "points of depth have y = 99; allowed: 0 to 15"),
    "of others": (guides.points("depth", np.stack([ROWS] * 3)), {}, r"guide has an array of shape \[3, 3\]; allowed"),
    "another size": (guides.region("rgb", np.ones((8, 8)), (0, 0, 1)), {}, r"region has shape \[1, 8, 8\]; allowed: "),
    "whole": (guides.points("depth", ROWS), {"whole": 1.0}, "whole is 1; allowed: 0, as there is a guide"),
    "particles": (guides.points("depth", ROWS), {"particles": 2}, "particles is 2; allowed: 1, as there is a guide"),
    "weight alone": (None, {"guide_weight": 2.0}, "guide_weight is 2.0, but there is no guide"),
    "way alone": (None, {"guide_through": "decoder"}, "guide_through is decoder, but there is no guide"),
    "another way": (guides.points("depth", ROWS), {"guide_through": "air"}, "guide_through is 'air'; it must be one"),
    "weight": (guides.points("depth", ROWS), {"guide_weight": -1}, "guide_weight is -1; it must be a number 0 to 100"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_requests_are_named_in_one_line(model, kind):
    guide, options, message = BAD[kind]
    given = {"given": {"rgb": np.zeros((16, 16, 3), np.uint8)}} if "whole" in options else {}
    with unchecked(), pytest.raises(UsageError, match=message) as caught:
        model.generate(n=2, guide=guide, **given, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_guide_needs_the_linear_path(model):
    other = MMGen(dataclasses.replace(model.architecture, path="cosine"), tiny_model.build()[1])
    with pytest.raises(UsageError, match="guide is 'a loss', which needs the linear path; the model's is cosine"):
        other.generate(guide=guides.points("depth", ROWS))


def test_a_loss_that_is_not_a_number_is_told(model):
    with pytest.raises(NotFinite, match="are NaN or infinite in sample 0, 1; look at .* the loss of a guide"):
        model.generate(n=2, guide=lambda i: jnp.log(-1 - i["depth"].sum((1, 2))), guide_through="decoder", **FAST)


UNSCALED = np.concatenate([ROWS, [[3, 12, 0.3]]])


def test_points_without_a_scale_are_the_same_in_any_unit(model):
    """Rows whose values are scaled and shifted give the same samples, and these fit them up to a scale and a shift."""

    def misfit(depth):
        found = depth[UNSCALED[:, 1].astype(int), UNSCALED[:, 0].astype(int)]
        design = np.stack([UNSCALED[:, 2], np.ones(4)], 1)
        return scipy.optimize.lsq_linear(design, found, bounds=([0, -np.inf], np.inf)).cost

    plain = model.generate(n=2, **FAST)
    out = model.generate(n=2, guide=guides.unscaled("depth", UNSCALED), **FAST)
    compiled = model._sampler._draw._cache_size()
    for scale, shift in ((3.0, 5.0), (0.01, -2.0), (1e6, 1e6), (1e300, 0.0)):
        other = UNSCALED * [1, 1, scale] + [0, 0, shift]
        same = model.generate(n=2, guide=guides.unscaled("depth", other), **FAST)
        np.testing.assert_allclose(same["depth"], out["depth"], atol=1e-4)
    assert model._sampler._draw._cache_size() == compiled
    for i in range(2):
        assert misfit(out["depth"][i]) < 0.5 * misfit(plain["depth"][i])


def test_the_loss_without_a_scale_is_that_of_the_best_scale_and_shift(rng):
    """Against SciPy's bounded least squares; half of the images are upside down, where the best scale is 0."""
    rows = np.stack([np.concatenate([ROWS, [[3, 12, v]]]) for v in (0.2, 0.4, 0.6, 0.8)])
    images = rng.uniform(size=(4, 16, 16)).astype(np.float32)
    images[:2] = 0.3 + 0.2 * images[:2]
    for i, sign in enumerate((1, -1, 1, -1)):
        images[i, rows[i, :, 1].astype(int), rows[i, :, 0].astype(int)] += sign * 0.4 * rows[i, :, 2]
    seen = Images(("depth",), lambda _: jnp.asarray(2 * images - 1)[..., None])
    found = guides.unscaled("depth", rows, 0.1)(seen)
    scales = []
    for i, (x, y, value) in enumerate(rows.transpose(0, 2, 1)):
        design = np.stack([value, np.ones(4)], 1)
        fit = scipy.optimize.lsq_linear(design, images[i, y.astype(int), x.astype(int)], ([0, -np.inf], np.inf))
        np.testing.assert_allclose(found[i], fit.cost / 0.1**2, rtol=1e-3)
        scales.append(fit.x[0])
    assert min(scales) < 1e-3 < 0.1 < max(scales)


ARGUMENTS = {
    "modality": (("points", "sound", ROWS), "modality of points is 'sound'; allowed: rgb, depth, normal, mask"),
    "deviation": (("points", "depth", ROWS, 0.0), "deviation of points is 0.0; it must be a finite number above 0"),
    "text": (("points", "depth", [["a", "b", "c"]]), "points of depth have type <U1; allowed: numbers, "),
    "ragged": (("points", "depth", [[1], [1, 2]]), "points of depth"),
    "columns": (("points", "rgb", ROWS), r"points of rgb have shape \[3, 3\]; allowed: \[P, 5\] or \[n, P, 5\]"),
    "none": (("points", "depth", np.zeros((0, 3))), r"points of depth have shape \[0, 3\]"),
    "between": (("points", "depth", [[0.5, 0, 0.5]]), "points of depth have pixels that are no integers of at least 0"),
    "left": (("points", "depth", [[-1, 0, 0.5]]), "points of depth have pixels that are no integers of at least 0"),
    "far": (("points", "depth", [[1, 0, 1.5]]), "points of depth has the value 1.5; allowed: 0 to 1"),
    "nan": (("points", "normal", [[1, 0, 0, 0, np.nan]]), "points of normal has the value nan; allowed: -1 to 1"),
    "colour": (
        ("region", "rgb", SQUARE, (0, 1)),
        r"region of rgb has a value of type int64 and shape \[2\]; allowed: 3",
    ),
    "bright": (("region", "rgb", SQUARE, (0, 1, 2)), "region of rgb has the value 2; allowed: 0 to 1"),
    "two": (("unscaled", "depth", ROWS[:2]), "unscaled points of depth are 2; allowed: at least 3"),
    "level": (("unscaled", "depth", ROWS * [1, 1, 0]), "unscaled points of depth have one value everywhere; allowed"),
    "endless": (("unscaled", "depth", ROWS * [1, 1, np.inf]), "unscaled points of depth have the value inf; allowed"),
    "of colours": (("unscaled", "rgb", ROWS), "modality of unscaled points is 'rgb'; allowed: depth"),
    "empty": (("region", "depth", ~SQUARE & SQUARE, 0.5), "region of depth is empty; allowed: True in some pixels"),
    "levels": (("region", "depth", 0.3 * SQUARE, 0.5), "region of depth has values from 0 to 0.3; allowed: "),
}


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_guides_refuse_what_means_nothing(kind):
    (name, *arguments), message = ARGUMENTS[kind]
    with unchecked(), pytest.raises(UsageError, match=message) as caught:
        getattr(guides, name)(*arguments)
    assert "\n" not in str(caught.value)


def test_command(model_dir, model_config, tmp_path):
    section, file = model_config.sample, tmp_path / "points.tsv"
    section.steps, section.n, section.solver = 2, 2, "euler"
    section.points.depth, section.region.mask = str(file), str(tmp_path / "left.png")
    section.region.colour = (0.9, 0.1, 0.1)
    Image.fromarray(np.uint8(255) * SQUARE).save(tmp_path / "left.png")

    def run():
        return sample.run(model_config, str(model_dir), str(tmp_path / "out"))

    for text, message in (
        ("1\t2\n", "has 2 numbers in line 1; allowed: 3"),
        ("# x y depth\n1 a 3\n", r"have \['1', 'a', '3'\] in line 2; allowed: numbers"),
        ("\n", "are none; allowed: rows of x, y and the value"),
        ("20 1 0.5\n", "points of depth have x = 20; allowed: 0 to 15"),
    ):
        file.write_text(text)
        named = f"^config key sample.points.depth is '{file}': .*"
        with pytest.raises(UsageError, match=named + message.replace("has 2", "have 2")):
            run()
    assert not (tmp_path / "out").exists()
    file.write_text("# x\ty\tdepth\n2\t3\t0.9\n\n12 3 0.1\n")
    run()
    made = (tmp_path / "out" / "depth_000.png").read_bytes()
    section.n = 3
    run()
    assert (tmp_path / "out" / "depth_000.png").read_bytes() == made
    file.write_text("2\t3\t0.8\n12 3 0.1\n")
    with pytest.raises(UsageError, match="the points of depth"):
        run()
    section.points.depth, section.unscaled.depth = "", str(file)
    with pytest.raises(UsageError, match="unscaled points of depth are 2; allowed: at least 3"):
        run()
    file.write_text("2 3 40\n12 3 10\n4 9 20\n")
    sample.run(model_config, str(model_dir), str(tmp_path / "unscaled"))
    file.write_text("2 3 40\n12 3 10\n4 9 21\n")
    with pytest.raises(UsageError, match="the unscaled points of depth"):
        sample.run(model_config, str(model_dir), str(tmp_path / "unscaled"))
