"""Compares tiny decoders with the diffusers library, and tests which files they are read from and what they decode."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_model
from PIL import Image
from safetensors.numpy import save_file

from mmgen_jax import settings
from mmgen_jax.frozen import torch_names
from mmgen_jax.frozen.abstract import params as abstract_params
from mmgen_jax.frozen.autoencoders import kl, tiny_decoder
from mmgen_jax.frozen.autoencoders.tiny_decoder import TinyConfig, TinyNetwork
from mmgen_jax.modalities.facts import Facts
from mmgen_jax.modalities.registry import NAMES
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import torch_write
from mmgen_jax.training import preview
from mmgen_jax.training.architecture import from_settings

TINY_VAE = Path(__file__).parents[1] / "golden" / "tiny_vae"
SMALL = TinyConfig(width=4, blocks=(1, 0, 2, 1))

decode = jax.jit(lambda decoder, z: decoder(z))


@pytest.mark.parametrize(
    "channels, width, blocks, scaling",
    [
        (4, 8, (3, 3, 3, 1), {}),
        (16, 6, (3, 3, 3, 1), {}),
        (3, 4, (2, 0, 1), {"scaling_factor": 0.5, "shift_factor": 0.25}),
    ],
)
def test_parity_with_diffusers(channels, width, blocks, scaling, tmp_path, rng):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4,) * len(blocks),
        decoder_block_out_channels=(width,) * len(blocks),
        num_encoder_blocks=(1,) * len(blocks),
        num_decoder_blocks=blocks,
        latent_channels=channels,
        **scaling,
    ).eval()
    with torch.no_grad():
        for p in theirs.decoder.parameters():
            p.add_(0.1 * torch.randn_like(p))
    theirs.save_pretrained(tmp_path)
    ours = tiny_decoder.load(tmp_path)
    assert (ours.config.blocks, ours.config.factor) == (blocks, 2 ** (len(blocks) - 1))
    z = 3 * rng.normal(size=(2, 3, 5, channels)).astype(np.float32)
    raw = torch.from_numpy(z / theirs.config.scaling_factor + theirs.config.shift_factor).permute(0, 3, 1, 2)
    with torch.no_grad():
        expected = theirs.decode(raw).sample.permute(0, 2, 3, 1).numpy()
    found = decode(ours, z)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.std(expected, axis=(1, 2)).min() > 0.1  # so that there is something to compare
    close = decode(dataclasses.replace(ours, dtype="bfloat16"), z)
    assert np.abs(close - expected).max() < 0.05 * np.abs(expected).max()


def state(config=SMALL):
    """Random weights by their names in this network."""
    rng = np.random.default_rng(0)
    shapes = abstract_params(TinyNetwork, config, "float32")
    return torch_names.to_torch(jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32), shapes))


def original(arrays):
    """The names of the original files: numbers of the layers of a sequence, which begins with the clamp."""
    split = [name.removeprefix("layers.").partition(".") for name in arrays]
    return {f"{int(n) + 1}.{rest}": x for (n, _, rest), x in zip(split, arrays.values(), strict=True)}


def test_original_files(tmp_path):
    arrays = state()
    names = original(arrays)
    assert {"1.weight", "3.conv.4.bias", "5.weight", "13.bias"} < {*names} and "5.bias" not in names
    torch_write.write(tmp_path / "taesd_decoder.pth", names)
    half = {name: x.astype(np.float16) for name, x in names.items()}
    save_file(half, tmp_path / "taesd_decoder.safetensors")
    for file, wanted in (("taesd_decoder.pth", arrays), ("taesd_decoder.safetensors", None)):
        found = tiny_decoder.load(tmp_path / file)
        assert found.config == SMALL
        for name, x in torch_names.to_torch(found.params).items():
            expected = arrays[name] if wanted else arrays[name].astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(x, expected, err_msg=name)


def test_it_decodes_all_modalities_and_encodes_none(tmp_path, rng):
    save_file(original(state()), tmp_path / "taesd_decoder.safetensors")
    full = kl.load(TINY_VAE, NAMES)
    fast = full.with_tiny_decoder(tmp_path / "taesd_decoder.safetensors")
    assert fast.spec == full.spec and fast.arrays().keys() == full.arrays().keys()
    latents = {m: rng.normal(size=(2, 2, 3, 4)).astype(np.float32) for m in NAMES}
    images = jax.jit(lambda autoencoder, z: autoencoder.decode(z))(dataclasses.replace(fast, chunk=3), latents)
    assert {m: x.shape for m, x in images.items()} == {m: (2, 16, 24, 1 if m == "depth" else 3) for m in NAMES}
    for m, z in latents.items():
        raw = np.asarray(decode(fast.tiny, z))
        expected = raw.mean(-1, keepdims=True) if m == "depth" else raw
        np.testing.assert_allclose(images[m], np.clip(expected, -1, 1), atol=1e-5)
    picture = {"rgb": rng.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)}
    np.testing.assert_array_equal(fast.encode(picture)["rgb"], full.encode(picture)["rgb"])


@pytest.mark.parametrize(
    "change, config, text",
    [
        (lambda a: a | {"0.extra": np.zeros(1)}, {}, "left over layers.-1.extra"),
        (lambda a: {name: x for name, x in a.items() if name != "1.bias"}, {}, "missing layers.0.bias$"),
        (lambda a: a | {"1.weight": np.zeros((4, 4, 1, 1))}, {}, r"misshapen layers.0.weight \(4, 4, 1, 1\)"),
        (lambda a: a | {"1.bias": np.full(4, np.nan, np.float32)}, {}, "layers.0.bias has values that are not finite"),
        (
            lambda a: {f"{name}.x": x for name, x in a.items()},
            {},
            "no weights with a name like decoder.layers.0.weight or",
        ),
        (dict, {"_class_name": "AutoencoderKL"}, "_class_name is 'AutoencoderKL'; allowed: AutoencoderTiny$"),
        (dict, {"act_fn": "silu"}, "act_fn is 'silu'; allowed: relu$"),
        (dict, {"upsampling_scaling_factor": 4}, "upsampling_scaling_factor is 4; allowed: 2$"),
        (dict, {"scaling_factor": 0}, "config.json: scaling_factor is 0; it must be a finite number above 0"),
        (dict, {"shift_factor": None}, "config.json: shift_factor is None; it must be a finite number"),
        (lambda a: original(state(dataclasses.replace(SMALL, latent_channels=16))), {}, "of 16 channels and factor 8;"),
        (lambda a: original(state(dataclasses.replace(SMALL, blocks=(1,)))), {}, "have 4 and 8$"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, config, text):
    save_file(change(original(state())), tmp_path / "x.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=text):
        kl.load(TINY_VAE, ("rgb",)).with_tiny_decoder(tmp_path / "x.safetensors")


def chosen(**train):
    config = tiny_model.config()
    config.autoencoder.name, config.autoencoder.factor, config.autoencoder.components = "kl", 8, ()
    config.model.patch, config.data.dir = 1, ""
    config.train.update(train)
    return settings.parse(config)


def test_previews_decode_with_it(tmp_path):
    save_file(original(state()), tmp_path / "taesd_decoder.safetensors")
    options = chosen(preview_decoder=str(tmp_path / "taesd_decoder.safetensors"))
    without_weights = kl.AutoencoderKL(NAMES, kl.KLConfig(), None)  # so the full one cannot have decoded
    architecture = from_settings(options, without_weights, Facts(class_names=("a", "b")))
    picture = preview.Preview(architecture, options, tmp_path)(tiny_model.random(architecture, 0), 3)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "samples" / "00000003.png")), picture)
    assert picture.std() > 1


def test_a_preview_without_such_latents_is_refused(tmp_path):
    architecture, _ = tiny_model.build()
    with pytest.raises(
        UsageError,
        match="^config key train.preview_decoder is 'x': it is for autoencoders of the kind 'kl'; that of the model is "
        "'patch_pca'$",
    ):
        preview.Preview(architecture, chosen(preview_decoder="x"), tmp_path)
