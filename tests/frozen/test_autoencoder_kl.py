"""Compares Stable Diffusion's autoencoder with the diffusers library, and tests what only this package does."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.frozen import torch_names
from mmgen_jax.frozen.autoencoders import kl, kl_names, registry
from mmgen_jax.system.errors import UsageError

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = GOLDEN / "tiny_vae"
MODALITIES = ("rgb", "depth", "normal", "mask")

moments = jax.jit(lambda autoencoder, images: autoencoder.moments(images))
decode = jax.jit(lambda autoencoder, latents: autoencoder.decode(latents))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "components.npz")


@pytest.fixture(scope="module")
def tiny():
    return kl.load(TINY, MODALITIES)


def test_stored_outputs_of_diffusers(tiny, golden):
    found = moments(tiny, {"rgb": golden["vae/images"]})["rgb"]
    np.testing.assert_allclose(found, np.concatenate([golden["vae/mean"], golden["vae/std"]], -1), atol=1e-5)
    images = decode(tiny, {"rgb": golden["vae/mean"] * 0.18215})["rgb"]
    np.testing.assert_allclose(images, np.clip(golden["vae/decoded"], -1, 1), atol=3e-5)


PLAIN, ATTENTION = ("DownEncoderBlock2D", "UpDecoderBlock2D"), ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D")
# Widths, latent channels, groups, layers, extra entries; shapes of two images.
CASES = {
    "sd": ((8, 16), 4, 4, 2, {}, [(2, 16, 24)]),
    "odd": ((6, 12, 18), 3, 3, 1, {"in_channels": 3, "scaling_factor": 0.13025}, [(1, 12, 20), (3, 8, 8)]),
    "sixteen": (
        (8, 8),
        16,
        8,
        1,
        {"use_quant_conv": False, "use_post_quant_conv": False, "shift_factor": 0.0609, "scaling_factor": 1.5305},
        [(2, 10, 6)],
    ),
    "plain": ((8,), 2, 2, 1, {"mid_block_add_attention": False}, [(2, 5, 7)]),
    "va-vae": (  # its blocks, factor and channels
        (4, 4, 8, 8, 12),
        32,
        4,
        2,
        {
            "down_block_types": [PLAIN[0]] * 4 + [ATTENTION[0]],
            "up_block_types": [ATTENTION[1]] + [PLAIN[1]] * 4,
            "latents_mean": [0.1 * i - 1.5 for i in range(32)],
            "latents_std": [0.5 + 0.1 * i for i in range(32)],
        },
        [(1, 32, 48)],
    ),
    "one-sided": (  # as the one of MAR, whose decoder has no attention; and the factor of Playground v2.5
        (4, 8, 8),
        3,
        2,
        1,
        {
            "down_block_types": [PLAIN[0], ATTENTION[0], PLAIN[0]],
            "latents_mean": [1.0, -2.0, 0.5],
            "latents_std": [5.0, 2.0, 0.5],
            "scaling_factor": 0.5,
        },
        [(2, 8, 12)],
    ),
}


def reference(case, folder, **kwargs):
    """A random autoencoder of diffusers, saved to a folder."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    widths, latent, groups, layers, extra, _ = CASES[case]
    torch.manual_seed(0)
    plain = {f"{name}_block_types": (PLAIN[i],) * len(widths) for i, name in enumerate(("down", "up"))}
    model = diffusers.AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=layers,
        norm_num_groups=groups,
        latent_channels=latent,
        sample_size=16,
        **plain | extra,
    ).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    model.save_pretrained(folder, **kwargs)
    return torch, model


@pytest.mark.parametrize("case", CASES)
def test_parity_with_diffusers(case, tmp_path, rng):
    torch, theirs = reference(case, tmp_path, safe_serialization=case != "odd")  # one of them as .bin
    ours = kl.load(tmp_path, ("rgb",))
    shift, scale = theirs.config.shift_factor or 0.0, theirs.config.scaling_factor
    if theirs.config.latents_std is not None:  # as in the pipelines of SDXL
        factor = 1.0 if case == "va-vae" else scale  # whose config has the default of diffusers
        shift, scale = np.float32(theirs.config.latents_mean), factor / np.float32(theirs.config.latents_std)
        np.testing.assert_allclose(ours.std["rgb"], np.full(len(shift), factor), rtol=1e-6)
    for shape in CASES[case][-1]:
        x = rng.uniform(-1, 1, (*shape, 3)).astype(np.float32)
        with torch.no_grad():
            posterior = theirs.encode(torch.from_numpy(x).permute(0, 3, 1, 2)).latent_dist
            images = theirs.decode(posterior.mean).sample.permute(0, 2, 3, 1).numpy()
        mean, std = (v.permute(0, 2, 3, 1).numpy() for v in (posterior.mean, posterior.std))
        found = moments(ours, {"rgb": x})["rgb"]
        np.testing.assert_allclose(found, np.concatenate([mean, std], -1), atol=2e-5)
        np.testing.assert_allclose(ours.sample({"rgb": found}, None)["rgb"], (mean - shift) * scale, atol=2e-5)
        np.testing.assert_allclose(
            decode(ours, {"rgb": (mean - shift) * scale})["rgb"], np.clip(images, -1, 1), atol=5e-5
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("names", [{}, {"variant": "fp16"}])
def test_half_precision_in_several_files(dtype, names, tmp_path):
    torch, theirs = reference("va-vae", tmp_path / "whole")
    theirs.to(getattr(torch, dtype)).save_pretrained(tmp_path / "parts", max_shard_size="40KB", **names)
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    found = kl.load(tmp_path / "parts", ("rgb",)).arrays()
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(found[name], value.float().numpy(), err_msg=name)


def test_tiled_decoding_is_that_of_diffusers(tmp_path, rng):
    torch, theirs = reference("sd", tmp_path)
    ours = kl.load(tmp_path, ("rgb",))
    theirs.enable_tiling()
    side = theirs.tile_latent_min_size
    z = rng.normal(size=(1, 2 * side + 3, side + 1, 4)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.decode(torch.from_numpy(z).permute(0, 3, 1, 2)).sample.permute(0, 2, 3, 1).numpy()
    found = decode(dataclasses.replace(ours, tile=side), {"rgb": z * ours.config.scaling_factor})["rgb"]
    np.testing.assert_allclose(found, np.clip(expected, -1, 1), atol=5e-5)
    x = rng.uniform(-1, 1, (1, 2 * theirs.tile_sample_min_size, 16, 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs.encode(torch.from_numpy(x).permute(0, 3, 1, 2)).latent_dist.mean.permute(0, 2, 3, 1).numpy()
    found = moments(dataclasses.replace(ours, tile=side), {"rgb": x})["rgb"][..., :4]
    np.testing.assert_allclose(found, expected, atol=5e-5)


def test_older_names_and_shapes_of_the_attention(tiny, tmp_path):
    back = {new: old for old, new in kl_names.OLD_NAMES.items()}
    state = {}
    for name, value in tiny.arrays().items():
        part = next((new for new in back if f"attentions.0.{new}." in name), None)
        state[name.replace(part, back[part]) if part else name] = (
            value[:, :, None, None] if part and value.ndim == 2 else value
        )
    assert any("proj_attn" in name for name in state)
    np.savez(tmp_path / "vae.npz", **state)
    (tmp_path / "config.json").write_text((TINY / "config.json").read_text())
    found = kl.load(tmp_path / "vae.npz", MODALITIES)
    jax.tree.map(np.testing.assert_array_equal, found.params, tiny.params)


def test_a_file_without_a_config_is_understood_from_its_shapes(tmp_path):
    (tmp_path / "vae.safetensors").write_bytes((TINY / "diffusion_pytorch_model.safetensors").read_bytes())
    with pytest.raises(UsageError, match="nothing tells their scaling factor; .*: 0.18215 for .*, 0.13025 for SDXL"):
        kl.load(tmp_path / "vae.safetensors", MODALITIES)
    (tmp_path / "config.json").write_text('{"scaling_factor": 0.13025}')
    with pytest.raises(UsageError, match="block_out_channels has 8; allowed: multiples of norm_num_groups = 32"):
        kl.load(tmp_path / "vae.safetensors", MODALITIES)  # the number of groups leaves no trace
    (tmp_path / "config.json").write_text('{"scaling_factor": 0.13025, "norm_num_groups": 4}')
    assert kl.load(tmp_path / "vae.safetensors", MODALITIES).config.scaling_factor == 0.13025
    full = kl.KLConfig()
    shapes = torch_names.to_torch(
        jax.tree.map(lambda s: np.broadcast_to(np.float32(0), s.shape), kl_names.abstract_params(full))
    )  # no memory is used
    assert kl_names.parse_config(kl_names.from_shapes(shapes, "x"), "x") == full


def test_stable_diffusion_has_its_number_of_parameters():
    assert sum(np.prod(s.shape) for s in jax.tree.leaves(kl_names.abstract_params(kl.KLConfig()))) == 83_653_863


def test_depth_is_repeated_and_averaged(tiny, rng):
    depth = rng.uniform(-1, 1, (2, 16, 16, 1)).astype(np.float32)
    both = moments(tiny, {"depth": depth, "rgb": depth.repeat(3, -1)})
    np.testing.assert_array_equal(both["depth"], both["rgb"])
    latents = {m: both["rgb"][..., :4] for m in ("rgb", "depth")}
    images = decode(dataclasses.replace(tiny, chunk=64), latents)
    assert images["depth"].shape == (2, 16, 16, 1)


def test_samples_follow_the_posterior_and_differ_between_modalities(tiny, rng):
    stored = {m: jnp.asarray(rng.uniform(0.5, 1, (4, 8, 8, 8)), jnp.float32) for m in MODALITIES}
    draws = [tiny.sample(stored, jax.random.key(i)) for i in range(2)]
    eps = {m: (draws[0][m] / 0.18215 - stored[m][..., :4]) / stored[m][..., 4:] for m in MODALITIES}
    assert abs(float(eps["rgb"].mean())) < 0.1 and float(eps["rgb"].std()) == pytest.approx(1, abs=0.1)
    assert float(jnp.abs(eps["rgb"] - eps["mask"]).mean()) > 0.5
    assert float(jnp.abs(draws[0]["rgb"] - draws[1]["rgb"]).mean()) > 0.01


@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_chunks_change_memory_and_nothing_else(tiny, golden, chunk):
    x = {m: np.tile(golden["vae/images"], (2, 1, 1, 1)) for m in ("rgb", "mask")}
    x["rgb"][3] *= 0.5
    expected = moments(tiny, x)
    found = moments(dataclasses.replace(tiny, chunk=chunk), x)
    for m in x:
        np.testing.assert_allclose(found[m], expected[m], atol=1e-5)


def test_memory_is_bounded_by_the_chunk(tiny):
    z = {"rgb": jax.ShapeDtypeStruct((64, 8, 8, 4), jnp.float32)}

    def temporaries(chunk: int) -> int:
        lowered = decode.lower(dataclasses.replace(tiny, chunk=chunk), z)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries(4) < temporaries(64) / 4


def test_bfloat16_is_close(tiny, golden):
    found = moments(dataclasses.replace(tiny, dtype="bfloat16"), {"rgb": golden["vae/images"]})["rgb"]
    exact = np.concatenate([golden["vae/mean"], golden["vae/std"]], -1)
    assert found.dtype == jnp.float32
    assert np.abs(found - exact).mean() < 0.02 * np.abs(exact).mean()


def test_stored_with_a_model_and_rebuilt(tiny):
    found = registry.rebuild(json.loads(json.dumps(tiny.spec)), MODALITIES, tiny.arrays())
    assert found.config == tiny.config
    jax.tree.map(np.testing.assert_array_equal, found.params, tiny.params)
    assert not {"down_block_types", "latents_std"} & tiny.spec["config"].keys()  # it has none, as those stored before
    config = kl.KLConfig(latents_mean=(0.5,) * 4, latents_std=(2.0,) * 4, up_block_types=(ATTENTION[1],) * 4)
    spec = json.loads(json.dumps(kl.AutoencoderKL(MODALITIES, config, None).spec))
    assert registry.rebuild(spec, MODALITIES, {}).config == config


def test_without_weights_stored_moments_can_still_be_sampled(tiny):
    empty = registry.rebuild(tiny.spec, MODALITIES, {})
    assert empty.params is None and empty.arrays() == {} and empty.channels["mask"] == 4
    assert empty.sample({"rgb": jnp.ones((1, 2, 2, 8))}, None)["rgb"].shape == (1, 2, 2, 4)
    with pytest.raises(UsageError, match="no weights of its autoencoder; convert it with --vae"):
        empty.decode({"rgb": jnp.ones((1, 2, 2, 4))})


def test_what_does_not_fit_is_named(tiny, tmp_path):
    stored = json.loads((TINY / "config.json").read_text())
    with pytest.raises(
        UsageError, match="down_block_types is .*; allowed: DownEncoderBlock2D, AttnDownEncoderBlock2D$"
    ):
        kl_names.parse_config(stored | {"down_block_types": ["Other"]}, "x")
    for change, text in (
        ({"down_block_types": [ATTENTION[0]] * 3}, "down_block_types has 3 entries; allowed: the length of .* = 4$"),
        (
            {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 4},
            "latents_mean has 3 entries; allowed: latent_channels = 4$",
        ),
        ({"latents_mean": [0.0] * 4, "latents_std": [1.0] * 32}, "latents_std has 32 entries; allowed: .* = 4$"),
        ({"latents_mean": [0.0] * 4}, "x: it has latents_mean and no latents_std; allowed: both, or none$"),
        ({"latents_std": [1.0] * 4}, "x: it has latents_std and no latents_mean; allowed: both, or none$"),
        ({"latents_mean": [0.0] * 4, "latents_std": [1.0, 0.0, 1.0, 1.0]}, "latents_std is .*; it must be a tuple of"),
        ({"latents_mean": [float("nan")] * 4, "latents_std": [1.0] * 4}, "latents_mean is .*each a finite number"),
        ({"latents_mean": 0.0, "latents_std": 1.0}, "latents_mean is 0.0; it must be a tuple of any number of entries"),
        (
            {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "shift_factor": 0.1},
            "x: it has latents_mean and shift_factor = 0.1, which are two ways to say the same; allowed: one of them",
        ),
    ):
        with pytest.raises(UsageError, match=text):
            kl_names.parse_config(stored | change, "x")
    with pytest.raises(UsageError, match="x does not fit the model: missing decoder.conv_in.bias$"):
        kl_names.from_names({k: v for k, v in tiny.arrays().items() if k != "decoder.conv_in.bias"}, tiny.config, "x")
    with pytest.raises(UsageError, match="x does not fit the model: left over extra$"):
        kl_names.from_names(tiny.arrays() | {"extra": np.zeros(1)}, tiny.config, "x")
    with pytest.raises(UsageError, match=r"x does not fit .*: misshapen quant_conv.bias \(3,\) instead of \(8,\)$"):
        kl_names.from_names(tiny.arrays() | {"quant_conv.bias": np.zeros(3)}, tiny.config, "x")
    with pytest.raises(UsageError, match="holds no weights of a known name; it has none"):
        kl.load(tmp_path, MODALITIES)
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(
        (TINY / "diffusion_pytorch_model.safetensors").read_bytes()
    )
    with pytest.raises(UsageError, match="config.json is damaged or not JSON"):
        kl.load(tmp_path, MODALITIES)
    (tmp_path / "config.json").write_text(json.dumps(stored | {"scaling_factor": 0}))
    with pytest.raises(UsageError, match="config.json: scaling_factor is 0; it must be a finite number above 0"):
        kl.load(tmp_path, MODALITIES)
