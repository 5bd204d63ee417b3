"""Tests what the sampler compiles, and the previews that use it."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.sampling.options import Options
from mmgen_jax.sampling.sampler import Sampler
from mmgen_jax.system.errors import NotFinite
from mmgen_jax.training import preview

FAST = Options("euler", 1, batch=4)


@pytest.fixture(scope="module")
def model():
    architecture, params = tiny_model.build()
    sampler = Sampler(architecture)
    return sampler, sampler.place(params)


def test_batches_of_one_shape_compile_once(model):
    sampler, params = model
    rgb = to_array(tiny_model.pixels(6)["rgb"])
    for options in (FAST, dataclasses.replace(FAST, seed=1, guidance=2, given_time=0)):
        out = sampler(params, np.full(6, 8), {"rgb": rgb}, options)
        assert list(out) == ["depth", "normal", "mask"] and {len(x) for x in out.values()} == {6}
    assert [f._cache_size() for f in (sampler._encode, sampler._draw, sampler._decode)] == [1, 1, 1]


def test_the_autoencoder_is_an_argument_and_no_constant_of_programs(model):
    sampler, _ = model
    latents = {m: np.zeros(shape, np.float32) for m, shape in sampler.architecture.latent_shapes(2).items()}
    images = {m: to_array(x) for m, x in tiny_model.pixels(2).items()}
    for program, inputs in ((sampler._encode, images), (sampler._decode, latents)):
        assert max(map(np.size, program.trace(sampler._autoencoder, inputs).jaxpr.consts), default=0) <= 1
        closed = jax.jit(lambda x, program=program: program(sampler.architecture.autoencoder, x))
        assert max(map(np.size, closed.trace(inputs).jaxpr.consts)) >= 48 * 6  # what the test would see


def test_numbers_choose_samples(model):
    sampler, params = model
    whole = sampler(params, np.arange(4), {}, FAST)
    part = sampler(params, np.array([3, 1]), {}, FAST, numbers=[3, 1], finish=lambda x: {"depth": x["depth"]})
    assert list(part) == ["depth"]
    np.testing.assert_allclose(part["depth"], whole["depth"][[3, 1]], atol=1e-4)


def test_previews_follow_the_sample_section(model_config, tmp_path, monkeypatch):
    architecture, params = tiny_model.build()
    drawn = []

    def draw(self, params, class_id, given, options, *, stream, **_):
        drawn.append((tuple(given), options, stream))
        return {m: np.zeros((8, 16, 16, {"depth": 1}.get(m, 3))) for m in architecture.modalities if m not in given}

    monkeypatch.setattr(Sampler, "__call__", draw)
    model_config.sample.update({"solver": "heun", "steps": 7, "guidance": 1.5, "given_time": 0.1, "seed": 4})
    picture = preview.Preview(architecture, settings.parse(model_config), tmp_path)(params, 12)
    options = Options("heun", 7, 1.5, (0.0, 1.0), 0.1, 4, batch=4)
    assert drawn == [((), options, "preview: joint"), (("rgb",), options, "preview: given")]
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "samples" / "00000012.png")), picture)
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["00000012.png"]


def spoiled(params, number):
    """The same weights with one of them NaN or infinite."""
    leaves, tree = jax.tree.flatten(jax.device_get(params))
    first = leaves[0].copy()
    first.flat[0] = number
    return jax.tree.unflatten(tree, [first, *leaves[1:]])


@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.parametrize("given", [(), ("rgb",), ("depth", "mask")])
def test_weights_that_are_not_finite_are_no_picture(model, number, given):
    sampler, params = model
    values = {m: to_array(tiny_model.pixels(3)[m]) for m in given}
    with pytest.raises(NotFinite, match=r"^latents of \w+ are NaN or infinite in sample 5, 6, 9; look at the weights"):
        sampler(spoiled(params, number), np.full(3, 8), values, FAST, numbers=[5, 6, 9])


@pytest.mark.parametrize("guidance", [3e38, 1e39, 1e300])
def test_guidance_beyond_all_numbers_is_no_picture(model, guidance):
    sampler, params = model
    message = r"are NaN or infinite in sample \d.*; look at the weights, the strength of guidance"
    with pytest.raises(NotFinite, match=message):
        sampler(params, np.zeros(10, int), {}, dataclasses.replace(FAST, guidance=guidance))


def test_many_samples_that_are_not_finite_are_named_in_short(model):
    sampler, params = model
    with pytest.raises(NotFinite, match="in sample 0, 1, 2, 3, 4, 5, 6, 7 and 3 more;"):
        sampler(spoiled(params, np.nan), np.full(11, 8), {}, dataclasses.replace(FAST, batch=16))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("modality", ["rgb", "depth", "normal", "mask"])
def test_decoding_names_the_modality_and_the_sample(model, number, modality):
    sampler, _ = model
    latents = {m: np.zeros(shape, np.float32) for m, shape in sampler.architecture.latent_shapes(3).items()}
    latents[modality][1, 0, 0, 0] = number
    with pytest.raises(NotFinite, match=f"^latents of {modality} are NaN or infinite in sample 1;"):
        sampler.decode(latents)


def test_an_autoencoder_that_is_not_finite_is_named(model):
    architecture, params = tiny_model.build()
    broken = jax.tree.map(lambda x: np.asarray(x) * np.nan, architecture.autoencoder)
    sampler = Sampler(dataclasses.replace(architecture, autoencoder=broken))
    with pytest.raises(NotFinite, match="^decoded images of rgb are NaN or infinite in sample 0, 1"):
        sampler(sampler.place(params), np.full(2, 8), {}, FAST)


def test_a_preview_that_is_not_finite_is_said_and_not_shown(model_config, tmp_path, capsys):
    architecture, params = tiny_model.build()
    show = preview.Preview(architecture, settings.parse(model_config), tmp_path)
    assert show(spoiled(params, np.nan), 12) is None and not (tmp_path / "samples").exists()
    assert "no preview of step 12: latents of rgb are NaN or infinite in sample 0, 1" in capsys.readouterr().out
