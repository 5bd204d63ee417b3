"""Files of frozen networks as they are passed around: CompVis' names, wrappings, and look-alikes that are refused."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from etils import epath

from mmgen_jax.frozen import depth_anything, dino_files
from mmgen_jax.frozen.autoencoders import kl, kl_names
from mmgen_jax.frozen.autoencoders.kl_layers import DOWN, UP
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import tensors, torch_write

GOLDEN = Path(__file__).parents[1] / "golden"
SCALED = '{"scaling_factor": 1, "norm_num_groups": 4}'
GROUPS = '{"norm_num_groups": 4}'  # of the tiny autoencoder, which no shape tells


@pytest.fixture(scope="module")
def vae():
    return kl.load(GOLDEN / "tiny_vae", ("rgb",))


def compvis(arrays, last=3):
    """diffusers' names -> those of CompVis' code, written down from its source; attention is 1 x 1 convolutions.

    `last` is the number of the coarsest level.
    """
    parts = {
        r"\.conv_norm_out\.": ".norm_out.",
        r"\.conv_shortcut\.": ".nin_shortcut.",
        r"\.down_blocks\.(\d)\.resnets\.(\d)\.": r".down.\1.block.\2.",
        r"\.down_blocks\.(\d)\.downsamplers\.0\.": r".down.\1.downsample.",
        r"\.mid_block\.resnets\.0\.": ".mid.block_1.",
        r"\.mid_block\.resnets\.1\.": ".mid.block_2.",
        r"\.down_blocks\.(\d)\.attentions\.(\d)\.": r".down.\1.attn.\2.",
        r"\.up_blocks\.(\d)\.attentions\.(\d)\.": lambda m: f".up.{last - int(m[1])}.attn.{m[2]}.",
        r"\.attn\.(\d)\.group_norm\.": r".attn.\1.norm.",
        r"\.attn\.(\d)\.to_([qkv])\.": r".attn.\1.\2.",
        r"\.attn\.(\d)\.to_out\.0\.": r".attn.\1.proj_out.",
        r"\.mid_block\.attentions\.0\.group_norm\.": ".mid.attn_1.norm.",
        r"\.mid_block\.attentions\.0\.to_([qkv])\.": r".mid.attn_1.\1.",
        r"\.mid_block\.attentions\.0\.to_out\.0\.": ".mid.attn_1.proj_out.",
        r"\.up_blocks\.(\d)\.resnets\.(\d)\.": lambda m: f".up.{last - int(m[1])}.block.{m[2]}.",
        r"\.up_blocks\.(\d)\.upsamplers\.0\.": lambda m: f".up.{last - int(m[1])}.upsample.",
    }
    renamed = {}
    for name, value in arrays.items():
        value = value[:, :, None, None] if "attentions" in name and value.ndim == 2 else value
        for pattern, replacement in parts.items():
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def load_vae(folder, name, value, config=GROUPS):
    (folder / "config.json").write_text(config)
    torch_write.write(folder / name, value)
    return kl.load(folder / name, ("rgb",))


WHOLE = {"model.diffusion_model.x": np.zeros(1)}


@pytest.mark.parametrize(
    "name, prefix, beside, scale",
    [
        ("vae-ft-mse-840000-ema-pruned.ckpt", "", {"loss.logvar": np.zeros(1)}, 0.18215),
        ("sdxl_vae.pt", "module.", {}, 0.13025),
        ("v1.ckpt", "first_stage_model.", WHOLE | {"cond_stage_model.x": np.zeros(1)}, 0.18215),
        ("xl.ckpt", "first_stage_model.", WHOLE | {"conditioner.x": np.zeros(1)}, 0.13025),
    ],
)
def test_compvis_names_are_diffusers(tmp_path, vae, name, prefix, beside, scale):
    state = {prefix + key: value for key, value in compvis(vae.arrays()).items()}
    found = load_vae(tmp_path, name, {"state_dict": state | beside})
    jax.tree.map(np.testing.assert_array_equal, found.params, vae.params)
    assert found.config.scaling_factor == scale


VA_VAE = {"norm_num_groups": 4, "latents_mean": [0.5] * 32, "latents_std": [2.0] * 32}


def test_va_vae_as_it_was_trained(tmp_path):
    config = kl.KLConfig(
        block_out_channels=(4, 4, 8, 8, 16),
        latent_channels=32,
        down_block_types=(DOWN[0],) * 4 + (DOWN[1],),
        up_block_types=(UP[1],) + (UP[0],) * 4,
        **{key: tuple(value) if isinstance(value, list) else value for key, value in VA_VAE.items()},
        scaling_factor=1.0,
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), kl_names.abstract_params(config))
    names = compvis(kl.AutoencoderKL(("rgb",), config, params).arrays(), last=4)
    assert {
        "encoder.down.4.attn.1.proj_out.weight",
        "decoder.up.4.attn.2.q.bias",
        "decoder.up.0.block.2.norm2.bias",
    } < {*names}
    beside = ("foundation_model.model.cls_token", "linear_proj.weight", "loss.logvar")
    state = {"state_dict": names | dict.fromkeys(beside, np.zeros(1)), "epoch": 1}
    found = load_vae(tmp_path, "vavae-imagenet256-f16d32-dinov2.pt", state, json.dumps(VA_VAE))
    assert found.config == config and found.factor == 16
    jax.tree.map(np.testing.assert_array_equal, found.params, params)
    with pytest.raises(
        UsageError, match="has latents of 32 channels, and nothing tells their scaling factor; .*: 1, with"
    ):
        load_vae(tmp_path, "vavae-imagenet256-f16d32-dinov2.pt", state)
    statistics = {name: np.full((1, 32, 1, 1), VA_VAE[f"latents_{name}"][0], np.float32) for name in ("mean", "std")}
    torch_write.write(tmp_path / "latents_stats.pt", statistics)
    assert load_vae(tmp_path, "vavae-imagenet256-f16d32-dinov2.pt", state, GROUPS).config == config
    for other in ({"mean": statistics["mean"]}, {"mean": "x", "std": "y"}, [1.0]):
        torch_write.write(tmp_path / "latents_stats.pt", other)
        with pytest.raises(UsageError, match="latents_stats.pt is not of statistics of latents; allowed: the tensors"):
            load_vae(tmp_path, "vavae-imagenet256-f16d32-dinov2.pt", state, GROUPS)


def test_half_precision_keeps_its_values(tmp_path, vae):
    half = {name: value.astype(np.float16) for name, value in vae.arrays().items()}
    found = load_vae(tmp_path, "sdxl_vae.pt", half)
    for name, value in found.arrays().items():
        np.testing.assert_array_equal(value, half[name].astype(np.float32), err_msg=name)


def with_nan(arrays):
    bias = arrays["encoder.conv_in.bias"].copy()
    bias[2] = np.nan
    return arrays | {"encoder.conv_in.bias": bias}


@pytest.mark.parametrize(
    "change, config, text",
    [
        (compvis, GROUPS, r"nothing tells their scaling factor; .*: 0.18215 for .*, 0.13025 for SDXL$"),
        (lambda a: a | {"quantize.embedding.weight": np.zeros((2, 2))}, SCALED, "left over quantize"),
        (
            with_nan,
            '{"scaling_factor": 1, "norm_num_groups": 4}',
            "encoder.conv_in.bias has values that are not finite",
        ),
        (dict, '{"_class_name": "AutoencoderTiny"}', "_class_name is 'AutoencoderTiny'; allowed: AutoencoderKL"),
        *(
            (dict, f'{{"norm_num_groups": 4, "scaling_factor": {value}}}', "scaling_factor is .*; it must be a finite")
            for value in ("null", '"x"', "0", "-1", "NaN", "1e999", "true", "[1]")
        ),
    ],
)
def test_autoencoders_that_are_not_one_or_do_not_tell(tmp_path, vae, change, config, text):
    with pytest.raises(UsageError, match=text):
        load_vae(tmp_path, "x.pt", change(vae.arrays()), config)


# ---- Depth Anything and DINOv2 ----


@pytest.fixture
def original(monkeypatch):
    """The tiny Depth Anything by its original names, whose four blocks of two heads are taken for a release's."""
    from test_depth_anything import original_names

    monkeypatch.setattr(dino_files, "HEAD_WIDTH", 8)
    monkeypatch.setitem(depth_anything.TAPS, 4, (1, 2, 3, 4))
    stored = tensors.read(GOLDEN / "tiny_depth_anything" / "model.safetensors")
    return original_names({name: np.asarray(value) for name, value in stored.items()})


@pytest.mark.parametrize(
    "name, kind",
    [
        ("depth_anything_v2_vits.pth", ""),
        ("Depth-Anything-V2-vitl_fp16.PTH", ""),
        ("depth_anything_vits14.pth", ""),
        ("latest.pth", "v2-relative"),
        ("latest.pth", "v1-relative"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_depth_anything_of_a_known_kind(tmp_path, original, name, kind, prefix):
    torch_write.write(tmp_path / name, {"model": {prefix + key: value for key, value in original.items()}, "epoch": 1})
    found, tiny = (
        depth_anything.load(p, kind=k) for p, k in ((tmp_path / name, kind), (GOLDEN / "tiny_depth_anything", ""))
    )
    jax.tree.map(np.testing.assert_array_equal, (found.backbone, found.head), (tiny.backbone, tiny.head))


def test_the_head_of_version_1_reads_the_last_four_blocks():
    for depth, second in ((12, (3, 6, 9, 12)), (24, (5, 12, 18, 24))):
        assert depth_anything._taps("v1-relative", depth, epath.Path("x")) == tuple(range(depth - 3, depth + 1))
        assert depth_anything._taps("v2-relative", depth, epath.Path("x")) == second


@pytest.mark.parametrize(
    "name, kind, text",
    [
        ("depth_anything_v2_metric_hypersim_vitl.pth", "", "predicts metric depth by its name; allowed: relative"),
        ("Depth-Anything-V2-Metric-VKITTI.pth", "", "predicts metric depth"),
        ("latest.pth", "", "say so: depth-anything:.*latest.pth,kind=v2-relative"),
        ("latest.pth", "metric", "kind of depth-anything is 'metric'; allowed: v2-relative, v1-relative"),
    ],
)
def test_depth_anything_of_another_or_an_unknown_kind(tmp_path, original, name, kind, text):
    torch_write.write(tmp_path / name, original)
    with pytest.raises(UsageError, match=text):
        depth_anything.load(tmp_path / name, kind=kind)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.", "_orig_mod.", "module.backbone."])
def test_dino_of_a_pretraining_run(tmp_path, prefix):
    state = dino_files.official(dino_files.find(GOLDEN / "tiny_dino", dino_files.ANCHORS)[0])
    state = {prefix + name: np.asarray(value) for name, value in state.items()}
    torch_write.write(tmp_path / "x.pth", {"teacher": state | {"dino_head.mlp.0.bias": np.zeros(1)}})
    (tmp_path / "config.json").write_text((GOLDEN / "tiny_dino" / "config.json").read_text())
    found, tiny = dino_files.load(tmp_path / "x.pth"), dino_files.load(GOLDEN / "tiny_dino")
    jax.tree.map(np.testing.assert_array_equal, found.params, tiny.params)


def test_the_backbone_of_another_network_is_not_dino(tmp_path, original):
    torch_write.write(tmp_path / "x.pth", original)
    with pytest.raises(UsageError, match="left over depth_head"):
        dino_files.load(tmp_path / "x.pth")
