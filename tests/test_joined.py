"""Tests requests of several models: conditions that others tell, and autoguidance away from a weak one."""

import dataclasses
import re

import jax
import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import sample
from mmgen_jax.api import MMGen
from mmgen_jax.diffusion import keys
from mmgen_jax.frozen.autoencoders import registry
from mmgen_jax.sampling import requests
from mmgen_jax.system.errors import UsageError

FAST = {"steps": 1, "solver": "euler", "given_time": 0.0, "seed": 0}


@pytest.fixture(scope="module")
def first():
    return MMGen(*tiny_model.part(("rgb", "depth"), 1))


@pytest.fixture(scope="module")
def other():
    return MMGen(*tiny_model.part(("rgb", "mask"), 2))


@pytest.fixture(scope="module")
def given():
    return {m: tiny_model.values(1)[m][0] for m in ("depth", "mask")}


def said(model, given, noise, class_id):
    """The velocity of rgb at t = 1 of the raw network, where some modalities are given."""
    a, latents = model.architecture, model.encode({m: x[None] for m, x in given.items()}) if given else {}
    x = {m: (latents if m in given else noise)[m] for m in a.modalities}
    t = np.array([[0.0 if m in given else 1.0 for m in a.modalities]], np.float32)
    task = a.modalities.index(next(iter(given))) + 1 if len(given) == 1 else 0
    return model.velocity(x, t, [class_id], [task])["rgb"]


def drawn(*models):
    """The noise of sample 0 with seed 0."""
    shapes = {m: s[1:] for model in models for m, s in model.architecture.latent_shapes(1).items()}
    return requests.noise(keys.of_seed(0, "sample"), jax.numpy.arange(1), shapes)


def test_conditions_of_two_models_without_a_common_sample(first, other, given):
    """One Euler step from the noise: x0 = noise - v, with v summed from the raw networks here."""
    noise = drawn(first, other)
    none, theirs = first.architecture.null_class, other.architecture.null_class
    nothing = said(first, {}, noise, none)
    v = nothing + 0.6 * (said(first, {"depth": given["depth"]}, noise, none) - nothing)
    v += 1.5 * (said(other, {"mask": given["mask"]}, noise, theirs) - said(other, {}, noise, theirs))
    v += 2.0 * (said(first, {}, noise, 3) - nothing)
    expected = first.decode({"rgb": noise["rgb"] - v})["rgb"]
    options = {"strength": {"depth": 0.6, "mask": 1.5}, "guidance": 2.0, "compose": True, "models": {"mask": other}}
    out = first.generate(class_id=3, given=given, **options, **FAST)
    assert list(out) == ["rgb", "depth", "mask"] and out.given == ("depth", "mask")
    assert np.abs(out["rgb"].astype(int) - expected).max() <= 1
    assert out.caption.startswith("given depth x 0.6 and, composed, mask x 1.5; class cone; ")
    np.testing.assert_array_equal(out["mask"][0], given["mask"])


def test_other_weights_and_other_numbers_compile_nothing(first, other, given):
    options = {"given": given, "compose": True}
    one = first.generate(models={"mask": other}, **options, **FAST)
    before = first._sampler._draw._cache_size()
    again = MMGen(*tiny_model.part(("rgb", "mask"), 3))
    two = first.generate(models={"mask": again}, strength={"mask": 0.5}, **options, **FAST)
    pair = first.joined({"mask": other}).generate(**options, **FAST)  # joined once, for many calls
    assert first._sampler._draw._cache_size() == before and (one["rgb"] != two["rgb"]).any()
    np.testing.assert_array_equal(one["rgb"], pair["rgb"])


def test_one_other_model_tells_two_conditions_that_the_first_knows_too(given):
    """It says what it says without them once; the first model ignores them."""
    whole, second = MMGen(*tiny_model.build()), MMGen(*tiny_model.part(("mask", "rgb", "depth"), 4))
    noise, none = drawn(whole), whole.architecture.null_class
    nothing = said(second, {}, noise, none)
    v = said(whole, {}, noise, none) + sum(said(second, {m: x}, noise, none) - nothing for m, x in given.items())
    expected = whole.decode({"rgb": noise["rgb"] - v})["rgb"]
    models = dict.fromkeys(given, second)
    out = whole.generate(given=given, models=models, compose=True, wanted=("rgb",), **FAST)
    assert np.abs(out["rgb"].astype(int) - expected).max() <= 1


def test_autoguidance_leads_away_from_the_weak_model(first, given):
    weak = MMGen(*tiny_model.part(("rgb", "depth"), 5))
    noise, depth = drawn(first), {"depth": given["depth"]}
    good, bad = (said(model, depth, noise, 3) for model in (first, weak))
    expected = first.decode({"rgb": noise["rgb"] - (bad + 2.5 * (good - bad))})["rgb"]
    out = first.generate(3, given=depth, weak=weak, autoguidance=2.5, **FAST)
    assert np.abs(out["rgb"].astype(int) - expected).max() <= 1 and "autoguidance 2.5" in out.caption
    outside = first.generate(3, given=depth, weak=weak, autoguidance=2.5, guidance_interval=(0.0, 0.5), **FAST)
    plain = first.generate(3, given=depth, **FAST)
    assert np.abs(outside["rgb"].astype(int) - plain["rgb"]).max() <= 1


def test_a_weak_model_with_other_classes_serves_without_a_class(first, given):
    a, _ = tiny_model.part(("rgb", "depth"), 5)
    smaller = a.with_classes(("cone",))
    weak = MMGen(smaller, smaller.init(jax.random.key(1)))
    first.generate(given={"depth": given["depth"]}, weak=weak, autoguidance=2.0, **FAST)
    for asked in ({"class_id": 3}, {"classes": {3: 1.0}}):
        with pytest.raises(UsageError, match="a class is given, and the weak model has the 1 classes"):
            first.generate(**asked, given={"depth": given["depth"]}, weak=weak, autoguidance=2.0, **FAST)


def test_conditions_are_read_by_the_models_that_tell_them(first, other):
    rgb = tiny_model.values(2)["rgb"]
    how = {"n": 2, "given": {"rgb": rgb}, "solver": "euler", "steps": 4, "temperature": 0, "seed": 0}
    read = {"depth": first.generate(**how)["depth"], "mask": other.generate(**how)["mask"]}
    options = {"n": 2, "wanted": ("rgb",), "compose": True, "models": {"mask": other}, **FAST}
    out = first.generate(given={"rgb": rgb}, via=("depth", "mask"), **options)
    two = first.generate(given=read, **options)
    for m in ("rgb", "depth", "mask"):
        np.testing.assert_array_equal(out[m], two[m])
    assert out.given == ("depth", "mask") and list(out.source) == ["rgb"]
    weak = MMGen(*tiny_model.part(("rgb", "depth"), 5))
    alone = first.generate(n=2, given={"rgb": rgb}, via=("depth",), weak=weak, autoguidance=2.0, **FAST)
    np.testing.assert_array_equal(alone["depth"], read["depth"])


def differing(**changes):
    return MMGen(*tiny_model.part(("rgb", "mask"), 2, **changes))


ALONE = {"given": {}, "compose": False}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: {"models": {"sound": o}}, "modality of models is 'sound'; allowed: rgb, depth, normal, mask"),
        (lambda o: {"models": {"normal": o}}, "the model of normal has rgb, mask; allowed: a model that has normal"),
        (lambda o: {"models": {"mask": "runs/a"}}, "models of mask is 'runs/a'; allowed: an MMGen"),
        (lambda o: {"models": o}, "models is "),
        (lambda o: {"weak": 3}, "weak is 3; allowed: an MMGen"),
        (lambda o: {"models": {"mask": o}, "compose": False}, "compose is False; a model of mask needs it to be True"),
        (
            lambda o: {"models": {"mask": o}, "given": {}, "class_id": 0},
            "there is a model of mask, but mask is not given as a whole; given: nothing",
        ),
        (
            lambda o: {"models": {"mask": o}, "given": {"mask": tiny_model.values(1)["mask"]}},
            "wanted has depth, which the model of mask lacks; allowed: rgb",
        ),
        (
            lambda o: {"models": {"mask": o}, "via": ("mask",), "given": {"depth": tiny_model.values(1)["depth"]}},
            "via is 'mask', and the model that tells mask does not know depth, which is given; allowed: rgb",
        ),
        (lambda o: ALONE | {"autoguidance": 2.0}, "autoguidance is 2, which needs a weak model; none is given"),
        (
            lambda o: ALONE | {"weak": MMGen(*tiny_model.part(("rgb", "depth"), 5))},
            "autoguidance is 1, which leaves the weak model out; allowed: another number",
        ),
        (
            lambda o: {"weak": o, "autoguidance": 2.0},
            "the weak model has rgb, mask; allowed: the modalities of the first model, rgb, depth",
        ),
        (
            lambda o: {"models": {"mask": differing(path="cosine")}},
            "the model of mask has path 'cosine'; allowed: 'linear', that of the first model",
        ),
        (
            lambda o: {"models": {"mask": differing(image_size=32)}},
            "the model of mask has image_size 32; allowed: 16, that of the first model",
        ),
        (
            lambda o: {"models": {"mask": MMGen(*tiny_model.part(("mask",), 2))}},
            "the model of mask has mask; allowed: a model that shares some of rgb, depth",
        ),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_models_that_cannot_go_together_are_refused_in_one_line(first, other, given, make, message):
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        first.generate(**{"given": given, "compose": True} | make(other) | FAST)
    assert "\n" not in str(caught.value)


def test_models_of_other_latents_or_colours_are_refused(first, given):
    a, params = tiny_model.part(("rgb", "mask"), 2)
    shifted = {name: x + (name == "rgb/mean") for name, x in a.autoencoder.arrays().items()}
    moved = dataclasses.replace(a, autoencoder=registry.rebuild(a.autoencoder.spec, a.modalities, shifted))
    with pytest.raises(UsageError, match="the model of mask has another autoencoder, whose rgb/mean differs"):
        first.joined({"mask": MMGen(moved, params)})
    facts = dataclasses.replace(a.facts, palette=a.facts.palette[::-1])
    with pytest.raises(UsageError, match="the model of mask has another palette; allowed: that of the first model"):
        first.joined({"mask": MMGen(dataclasses.replace(a, facts=facts), params)})


# ---- the command ----


def test_the_command_takes_conditions_of_another_model_and_knows_it_again(model_config, tmp_path):
    for m in ("depth", "mask"):
        Image.fromarray(tiny_model.pixels(1)[m][0].squeeze()).save(tmp_path / f"{m}.png")
        model_config.sample.given[m] = str(tmp_path / f"{m}.png")
    first = str(tiny_model.save(tmp_path / "first", tiny_model.part(("rgb", "depth"), 1)))
    second, another = (
        str(tiny_model.save(tmp_path / f"other{i}", tiny_model.part(("rgb", "mask"), i))) for i in (2, 3)
    )
    c = model_config
    c.data.modalities, c.autoencoder.components, c.objective.loss_weights = ("rgb", "depth"), (6, 4), (1.0, 1.0)
    c.sample.update({"compose": True, "steps": 1, "n": 2})
    c.sample.models.mask = second
    target = sample.run(c, first)
    assert target.name == "depth+mask" and {"rgb_001.png", "mask_000.png"} <= {p.name for p in target.iterdir()}
    sample.run(c, first)
    c.sample.models.mask = another
    with pytest.raises(UsageError, match='was begun with the weights of mask "[0-9a-f]{16}" instead of'):
        sample.run(c, first)
    c.sample.models.mask = str(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="^config key sample.models.mask is '.*nowhere': no model at .*nowhere"):
        sample.run(c, first)


def test_the_command_takes_a_weak_model(model_config, model_dir, tmp_path):
    c = model_config
    c.sample.update({"weak": str(model_dir), "steps": 1, "n": 2, "class_id": "torus"})
    with pytest.raises(UsageError, match="autoguidance is 1, which leaves the weak model out"):
        sample.run(c, str(model_dir), str(tmp_path / "out"))
    c.sample.autoguidance = 2.0
    target = sample.run(c, str(model_dir), str(tmp_path / "out"))
    assert '"the weights of weak"' in (target / "samples.json").read_text()
    c.sample.weak = ""
    with pytest.raises(UsageError, match="autoguidance is 2, which needs a weak model"):
        sample.run(c, str(model_dir), str(tmp_path / "out"))
