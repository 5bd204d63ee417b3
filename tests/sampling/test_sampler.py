"""Tests what the sampler compiles, and the previews that use it."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_model
from PIL import Image

from mmgen_jax import settings
from mmgen_jax.modalities.pixels import to_array
from mmgen_jax.sampling.sampler import Options, Sampler
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
    options = Options("heun", 7, 1.5, (0.0, 1.0), 0.1, 4, 4)
    assert drawn == [((), options, "preview: joint"), (("rgb",), options, "preview: given")]
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "samples" / "00000012.png")), picture)
    assert [p.name for p in (tmp_path / "samples").iterdir()] == ["00000012.png"]
