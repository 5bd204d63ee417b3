"""Compares the convolutional autoencoder with PyTorch's layers; its statistics, its file and what it refuses."""

import dataclasses

import damage
import jax
import numpy as np
import pytest
from safetensors.numpy import load as parse
from safetensors.numpy import save as dump

from mmgen_jax.frozen import torch_names
from mmgen_jax.frozen.autoencoders import arrays_file, conv, registry
from mmgen_jax.frozen.autoencoders.conv import ConvAutoencoder
from mmgen_jax.frozen.autoencoders.conv_layers import ConvConfig
from mmgen_jax.modalities.registry import MODALITIES, NAMES
from mmgen_jax.settings import Settings
from mmgen_jax.system import sealed
from mmgen_jax.system.errors import UsageError

encode = jax.jit(lambda autoencoder, images: autoencoder.encode(images))
decode = jax.jit(lambda autoencoder, latents: autoencoder.decode(latents))


def options(**changes):
    return dataclasses.replace(Settings().autoencoder, **{"width": 8, "channels": 5, "blocks": 1} | changes)


def images(rng, count=2, height=16, width=24, names=NAMES):
    shapes = {m: (count, height, width, MODALITIES[m].channels) for m in names}
    return {m: rng.uniform(-1, 1, shape).astype(np.float32) for m, shape in shapes.items()}


def random(rng, names=NAMES, **changes) -> ConvAutoencoder:
    """One whose every weight is random, those that begin as zeros too."""
    plain = ConvAutoencoder.stand_in(options(**changes), names)
    noise = lambda x: np.asarray(x) + 0.1 * rng.standard_normal(x.shape).astype(np.float32)  # noqa: E731
    return dataclasses.replace(plain, params=jax.tree.map(noise, plain.params))


def saved(folder, autoencoder):
    folder.mkdir(exist_ok=True)
    with sealed.sealing(folder, (arrays_file.FILE,)):
        arrays_file.save_arrays(folder, autoencoder)
    return folder


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_shapes(rng, factor):
    autoencoder, given = ConvAutoencoder.stand_in(options(factor=factor), NAMES), images(rng, height=32, width=48)
    latents = encode(autoencoder, given)
    assert tuple(latents) == NAMES == autoencoder.modalities and autoencoder.factor == factor
    assert {z.shape for z in latents.values()} == {(2, 32 // factor, 48 // factor, 5)}
    assert autoencoder.channels == dict.fromkeys(NAMES, 5)
    back = decode(autoencoder, latents)
    assert {m: x.shape for m, x in back.items()} == {m: x.shape for m, x in given.items()}
    moments = autoencoder.moments(given)
    assert moments["rgb"].shape[-1] == 10 and not np.asarray(moments["rgb"][..., 5:]).any()
    np.testing.assert_array_equal(autoencoder.sample(moments, None)["mask"], autoencoder.encode(given)["mask"])


def test_some_modalities_are_computed_as_with_all(rng):
    autoencoder, given = random(rng), images(rng)
    whole, some = encode(autoencoder, given), encode(autoencoder, {m: given[m] for m in ("mask", "depth")})
    assert tuple(some) == ("depth", "mask")
    for m, z in some.items():
        np.testing.assert_allclose(z, whole[m], atol=1e-5)
        np.testing.assert_allclose(decode(autoencoder, {m: z})[m], decode(autoencoder, whole)[m], atol=1e-5)
    assert not autoencoder.encode({}) and not autoencoder.decode({})


def test_chunks_change_nothing(rng):
    autoencoder, given = random(rng, chunk=400), images(rng, count=5)
    few = dataclasses.replace(autoencoder, chunk=4)
    latents = encode(autoencoder, given)
    for m, z in encode(few, given).items():
        np.testing.assert_allclose(z, latents[m], atol=1e-5)
        np.testing.assert_allclose(decode(few, latents)[m], decode(autoencoder, latents)[m], atol=1e-5)


def test_an_image_is_encoded_alike_wherever_it_is(rng):
    """Nothing looks at a whole image: what is far away changes nothing."""
    autoencoder, given = random(rng), images(rng, height=64, width=128, names=("rgb",))
    other = {"rgb": given["rgb"].copy()}
    other["rgb"][:, :, :8] = 0
    a, b = encode(autoencoder, given)["rgb"], encode(autoencoder, other)["rgb"]
    assert np.abs(a - b)[:, :, 0].max() > 0.01
    np.testing.assert_allclose(a[:, :, 8:], b[:, :, 8:], atol=1e-5)


def test_bfloat16_is_close_to_float32(rng):
    autoencoder, given = random(rng), images(rng)
    low = autoencoder.configured(options(dtype="bfloat16"))
    for m, z in encode(autoencoder, given).items():
        found = encode(low, given)[m]
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, z, atol=0.05 * float(np.abs(z).max()))


# ---- PyTorch ----


class InTorch:
    """The same network, written with PyTorch's layers on the arrays of the file."""

    def __init__(self, torch, state, config):
        self.torch, self.config = torch, config
        self.state = {name: torch.from_numpy(np.array(x)) for name, x in state.items()}

    def conv(self, x, name):
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return self.torch.nn.functional.conv2d(x, weight, self.state.get(f"{name}.bias"), padding=padding)

    def norm(self, x, name):
        root = (x.square().mean(1, keepdim=True) + 1e-6).sqrt()
        return x / root * self.state[f"{name}.weight"][:, None, None]

    def block(self, x, name):
        inner = self.conv(self.norm(x, f"{name}.norm"), f"{name}.conv1")
        return x + self.conv(self.torch.nn.functional.silu(inner), f"{name}.conv2")

    def patches(self, x, f):
        n, c, h, w = x.shape
        return x.reshape(n, c, h // f, f, w // f, f).permute(0, 3, 5, 1, 2, 4).reshape(n, f * f * c, h // f, w // f)

    def pixels(self, x, f):
        n, c, h, w = x.shape
        c = c // f**2
        return x.reshape(n, f, f, c, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c, h * f, w * f)

    def stages(self, x, part, change):
        for i in range(len(self.config.widths)):
            x = change(x, i - 1) if i else x
            for j in range(self.config.blocks):
                x = self.block(x, f"{part}.stages.{i}.blocks.{j}")
        return x

    def encode(self, image, m):
        linear = self.conv(self.patches(image, self.config.factor), f"encoder.linear.{m}")
        x = self.conv(self.patches(image, self.config.stem), "encoder.stem")
        x = x + self.state[f"encoder.modality.{m}.bias"][:, None, None]
        x = self.stages(x, "encoder", lambda x, i: self.conv(self.patches(x, 2), f"encoder.downs.{i}"))
        return linear + self.conv(self.norm(x, "encoder.norm"), "encoder.out")

    def decode(self, z, m):
        linear = self.pixels(self.conv(z, f"decoder.linear.{m}"), self.config.factor)
        x = self.conv(z, "decoder.stem") + self.state[f"decoder.modality.{m}.bias"][:, None, None]
        x = self.stages(x, "decoder", lambda x, i: self.pixels(self.conv(x, f"decoder.ups.{i}"), 2))
        x = self.pixels(self.conv(self.norm(x, "decoder.norm"), "decoder.fine"), self.config.stem)
        x = x + self.conv(linear, "decoder.drawn")
        for j in range(self.config.blocks):
            x = self.block(x, f"decoder.edges.blocks.{j}")
        return linear + self.conv(x, "decoder.out")


@pytest.mark.parametrize("factor, blocks", [(8, 2), (2, 1)])
def test_parity_with_torch(rng, factor, blocks):
    torch = pytest.importorskip("torch")
    autoencoder = random(rng, factor=factor, blocks=blocks)
    theirs = InTorch(torch, torch_names.to_torch(autoencoder.params), autoencoder.config)
    given = images(rng)
    latents = encode(autoencoder, given)
    back = jax.jit(lambda a, z: conv.network(a.config, a.dtype, a.params).decode(z, NAMES))(
        autoencoder, np.stack([latents[m] for m in NAMES], 1)
    )
    for i, m in enumerate(NAMES):
        wide = np.broadcast_to(given[m], (*given[m].shape[:-1], 3)).transpose(0, 3, 1, 2).copy()
        with torch.no_grad():
            z = theirs.encode(torch.from_numpy(wide), m)
            x = theirs.decode(z, m)
        np.testing.assert_allclose(latents[m], z.numpy().transpose(0, 2, 3, 1), atol=2e-4)
        np.testing.assert_allclose(back[:, i], x.numpy().transpose(0, 2, 3, 1), atol=1e-3)


# ---- statistics ----


def test_latents_are_white_and_std_says_how_white(rng):
    autoencoder, given = random(rng), images(rng, count=16)
    params = autoencoder.params
    for layer in (params["encoder"]["out"], *params["encoder"]["linear"].values()):
        layer["kernel"][..., 0] = 0
    found = conv.whitened(autoencoder.config, params, given, 1.0)
    for m, z in encode(found, given).items():
        z = np.asarray(z)
        np.testing.assert_allclose(z.mean((0, 1, 2)), 0, atol=1e-3)
        np.testing.assert_allclose(z.std((0, 1, 2))[1:], found.std[m][1:], atol=1e-3)
        np.testing.assert_allclose(found.std[m][1:], 1, atol=1e-3)
        assert 0 < found.std[m][0] < 1e-2 and not z[..., 0].any()  # and not noise made large
    with pytest.raises(UsageError, match="no tile has depth, whose latents are to be measured"):
        conv.whitened(autoencoder.config, params, given | {"depth": given["depth"][:0]}, 1.0)


@pytest.mark.parametrize("whitening", [0.0, 0.5])
def test_channels_that_draw_more_have_more_variance(rng, whitening):
    autoencoder, given = random(rng), images(rng, count=16)
    found = conv.whitened(autoencoder.config, autoencoder.params, given, whitening)
    plain = conv.whitened(autoencoder.config, autoencoder.params, given, 1.0)
    for m, z in encode(found, given).items():
        kernel = np.asarray(autoencoder.params["decoder"]["linear"][m]["kernel"])[0, 0]
        drawn = found.sigma[m] * np.linalg.norm(kernel, axis=1)
        spread = np.asarray(z).std((0, 1, 2))
        np.testing.assert_allclose(spread, found.std[m], rtol=1e-3)
        np.testing.assert_allclose(spread / spread[0], (drawn / drawn[0]) ** (1 - whitening), rtol=1e-3)
        assert np.mean(spread**2) == pytest.approx(1, rel=1e-3)
    for m, x in decode(found, encode(found, given)).items():  # which images come back does not depend on it
        np.testing.assert_allclose(x, decode(plain, encode(plain, given))[m], atol=1e-4)


# ---- the file ----


def test_the_file_makes_the_same_autoencoder(rng, tmp_path):
    autoencoder, given = random(rng), images(rng)
    autoencoder = conv.whitened(autoencoder.config, autoencoder.params, given, 0.5)
    folder = saved(tmp_path / "a", autoencoder)
    for path in (folder, folder / arrays_file.FILE):
        found = registry.build(options(name="conv", path=str(path)), NAMES, dict)
        for m, z in encode(autoencoder, given).items():
            np.testing.assert_array_equal(encode(found, given)[m], z)
    again = registry.rebuild(autoencoder.spec, NAMES, autoencoder.arrays())
    assert again.config == autoencoder.config and jax.tree.all(
        jax.tree.map(lambda a, b: (np.asarray(a) == np.asarray(b)).all(), again, found)
    )


def test_an_autoencoder_serves_models_of_fewer_modalities(rng, tmp_path):
    autoencoder, given = random(rng), images(rng)
    folder = saved(tmp_path / "a", autoencoder)
    found = registry.build(options(name="conv", path=str(folder)), ("mask", "rgb"), dict)
    assert found.modalities == ("mask", "rgb") and not any("depth" in name for name in found.arrays())
    for m in ("mask", "rgb"):
        np.testing.assert_allclose(encode(found, {m: given[m]})[m], encode(autoencoder, given)[m], atol=1e-5)


def test_a_modality_that_it_was_not_trained_on_is_named(rng, tmp_path):
    folder = saved(tmp_path / "a", random(rng, names=("rgb", "depth")))
    with pytest.raises(UsageError, match="a/autoencoder.safetensors was trained on rgb, depth; it does not know mask"):
        registry.build(options(name="conv", path=str(folder)), ("rgb", "mask"), dict)


@pytest.mark.parametrize("factor", [1, 3, 6, 12, 128])
def test_factors_that_are_no_powers_of_two(factor):
    with pytest.raises(UsageError, match=f"autoencoder.factor is {factor}; the factors of conv are 2, 4, 8, 16, 32"):
        ConvAutoencoder.stand_in(options(factor=factor), NAMES)


def test_paths_that_hold_none(rng, tmp_path):
    folder = saved(tmp_path / "a", random(rng))
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("hello")
    for path, words in {
        "": 'autoencoder.name is "conv"; it needs autoencoder.path, which is empty',
        "nowhere": "nowhere",
        str(tmp_path / "empty"): "autoencoder.safetensors",
        str(tmp_path / "text"): "is damaged or not a safetensors file",
        "gs://bucket/a": "is not on this machine",
    }.items():
        damage.refused(lambda path=path: registry.build(options(name="conv", path=path), NAMES, dict), 600, words)
    with pytest.raises(UsageError, match="config key autoencoder.factor is 4; .*a has 8"):
        registry.build(options(name="conv", path=str(folder), factor=4), NAMES, dict)


def test_a_flipped_bit_is_named(rng, tmp_path):
    folder = saved(tmp_path / "a", random(rng))
    for name in (arrays_file.FILE, sealed.FILE):
        for _ in damage.flips(folder / name):
            damage.refused(lambda: conv.load(folder, NAMES), 1000, name)
    conv.load(folder, NAMES)


def without(*names):
    return lambda arrays: {name: x for name, x in arrays.items() if name not in names}


def changed(name, change):
    return lambda arrays: arrays | {name: np.ascontiguousarray(change(arrays[name].copy()))}


def filled(value):
    def change(x):
        x.reshape(-1)[-1] = value
        return x

    return change


SPOILED = {
    "nan": (changed("decoder.stem.weight", filled(np.nan)), ("decoder.stem.weight", "not finite")),
    "infinite": (changed("latents.rgb.mean", filled(np.inf)), ("latents.rgb.mean", "not finite")),
    "no stem": (without("encoder.stem.weight"), ("encoder.stem.weight", "missing")),
    "no block": (without("encoder.stages.0.blocks.0.conv1.weight"), ("missing encoder.stages.0.blocks.0.conv1",)),
    "no shift": (without("decoder.modality.mask.bias"), ("missing decoder.modality.mask.bias",)),
    "no statistic": (without("latents.rgb.sigma"), ("missing latents.rgb.sigma",)),
    "left over": (lambda arrays: arrays | {"other": np.zeros(3, np.float32)}, ("left over other",)),
    "misshapen": (changed("decoder.fine.weight", lambda x: x[:5]), ("misshapen decoder.fine.weight",)),
    "flat": (changed("encoder.stem.weight", np.ravel), ("encoder.stem.weight has shape",)),
    "statistics": (changed("latents.depth.mean", lambda x: x[:2]), ("misshapen latents.depth.mean",)),
    "patch": (changed("encoder.linear.rgb.weight", lambda x: x[:, :27]), ("27 inputs", "3 and 4 pixels")),
    "stem": (changed("encoder.stem.weight", lambda x: x[:, :12]), ("192 inputs", "8 and 2 pixels")),
    "integers": (changed("latents.rgb.mean", lambda x: x.astype(np.int32)), ("latents.rgb.mean has type int32",)),
    "scale": (changed("latents.rgb.scale", filled(0)), ("latents.rgb.scale has values that are not above 0",)),
    "sigma": (changed("latents.rgb.sigma", filled(0)), ("latents.rgb.sigma has values that are not above 0",)),
    "nothing": (lambda _: {"other": np.zeros(3, np.float32)}, ("was trained on nothing", "rgb")),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_arrays_that_make_no_sense(rng, tmp_path, kind):
    spoil, words = SPOILED[kind]
    folder = saved(tmp_path / "a", random(rng))
    path = folder / arrays_file.FILE
    path.write_bytes(dump(spoil(parse(path.read_bytes()))))
    (folder / sealed.FILE).unlink()
    damage.refused(lambda: conv.load(folder, NAMES), 600, *words)


def test_a_stored_model_says_another_factor(rng):
    autoencoder = random(rng)
    with pytest.raises(UsageError, match="autoencoder.factor is 4; that of its config is 8"):
        registry.rebuild(autoencoder.spec | {"factor": 4}, NAMES, autoencoder.arrays())


def test_configs_are_values():
    assert ConvConfig(NAMES, 16, 8, 1, 4).widths == (8, 16, 32) and ConvConfig(NAMES, 2, 8, 1, 4).stem == 2
