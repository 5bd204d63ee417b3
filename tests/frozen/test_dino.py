"""DINOv2 against the transformers library, both kinds of names, and the sizes that were released."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.frozen import dino, dino_files
from mmgen_jax.frozen.dino import DinoConfig
from mmgen_jax.frozen.resample import bicubic, resize, smooth_bicubic
from mmgen_jax.system.errors import UsageError

GOLDEN = Path(__file__).parents[1] / "golden"

tokens = jax.jit(lambda model, pixels: model.tokens(pixels))
of_image = jax.jit(lambda model, pixels: model.of_image(pixels))
features = jax.jit(lambda model, rgb: model(rgb))


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "components.npz")


@pytest.fixture(scope="module")
def tiny():
    return dino_files.load(GOLDEN / "tiny_dino")


def test_stored_outputs_of_transformers(tiny, golden):
    np.testing.assert_allclose(tokens(tiny, golden["dino/pixels"]), golden["dino/tokens"], atol=1e-5)


def reference(registers: int, gated: bool, folder):
    """A random DINOv2 of transformers, saved to a folder."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    shape = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "mlp_ratio": 2, "image_size": 42}
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    extra = {"num_register_tokens": registers} if registers else {}
    config = getattr(transformers, f"{kind}Config")(patch_size=14, use_swiglu_ffn=gated, **shape, **extra)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn_like(p))
    model.save_pretrained(folder)
    return torch, model


@pytest.mark.parametrize("registers, gated", [(0, False), (4, False), (0, True)])
@pytest.mark.parametrize("grid", [(3, 3), (2, 5)])
def test_parity_with_transformers(registers, gated, grid, tmp_path, rng):
    torch, theirs = reference(registers, gated, tmp_path)
    # With registers transformers resizes the position embedding with antialiasing, as its original does.
    ours = dataclasses.replace(dino_files.load(tmp_path), resample=smooth_bicubic if registers else bicubic)
    assert ours.config.registers == registers and ours.config.gated == gated
    pixels = rng.normal(size=(2, 14 * grid[0], 14 * grid[1], 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    patches = expected.last_hidden_state[:, 1 + registers :]
    np.testing.assert_allclose(tokens(ours, pixels), patches.numpy(), atol=5e-5)
    np.testing.assert_allclose(of_image(ours, pixels), expected.pooler_output.numpy(), atol=5e-5)


@pytest.mark.parametrize("chunked", [False, True])
def test_facebookresearch_names(tiny, tmp_path, chunked):
    """A file under the original names gives the same weights; heads of 64 numbers are assumed without a config."""
    flat = {}
    for path, name in dino_files._paths(tiny.config).items():
        value = tiny.params
        for part in path:
            value = value[part]
        for i in range(tiny.config.depth if "{}" in name else 1):
            one = value[i] if "{}" in name else value
            if path == ("patch_embed", "kernel"):
                one = one.reshape(14, 14, 3, -1).transpose(3, 2, 0, 1)
            elif path[-1] == "kernel":
                one = one.T
            elif path[0] in ("cls_token", "pos_embed"):
                one = one[None]
            name_i = name.format(i)
            flat[name_i.replace(f"blocks.{i}.", f"blocks.0.{i}.") if chunked else name_i] = one
    flat["mask_token"] = np.zeros((1, 24), np.float32)
    np.savez(tmp_path / "dino.npz", **flat)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    found = dino_files.load(tmp_path / "dino.npz")
    assert found.config == tiny.config
    jax.tree.map(np.testing.assert_array_equal, found.params, tiny.params)


@pytest.mark.parametrize(
    "config, count",
    [  # of the releases, the mask token included
        (DinoConfig(384, 12, 6, 14, 1536), 22_056_576),
        (DinoConfig(), 86_580_480),
        (DinoConfig(1024, 24, 16, 14, 4096), 304_368_640),
        (DinoConfig(1536, 40, 24, 14, 4096, gated=True), 1_136_480_768),
        (DinoConfig(registers=4), 86_583_552),
    ],
)
def test_sizes_of_the_releases(config, count):
    found = sum(np.prod(s.shape) for s in jax.tree.leaves(dino.abstract_params(config)))
    assert found + config.width == count
    model = dino.Dino(config, dino.abstract_params(config))
    out = jax.eval_shape(lambda m, x: m(x), model, jax.ShapeDtypeStruct((2, 256, 256, 3), jnp.float32))
    assert out.shape == (2, 256, config.width)


def test_images_are_resized_to_the_grid_and_normalised(tiny, rng):
    model = dataclasses.replace(tiny, grid=4)
    rgb = rng.uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    prepared = ((rgb + 1) / 2 - np.float32(dino.MEAN)) / np.float32(dino.STD)
    expected = tokens(model, resize(prepared, 56, 56, smooth_bicubic))
    np.testing.assert_allclose(features(model, rgb), expected, atol=1e-5)


def test_bfloat16_is_close(tiny, golden):
    found = tokens(dataclasses.replace(tiny, dtype="bfloat16"), golden["dino/pixels"])
    assert found.dtype == jnp.float32
    assert np.abs(found - golden["dino/tokens"]).mean() < 0.03 * np.abs(golden["dino/tokens"]).mean()


def test_what_does_not_fit_is_named(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UsageError, match="empty holds no weights of a known name; it has none; give the path of a file"
    ):
        dino_files.load(tmp_path / "empty")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(
        UsageError, match="other.npz holds no weights with a name like patch_embed.proj.weight or .*: it has a$"
    ):
        dino_files.load(tmp_path / "other.npz")
    state = dino_files.official(dino_files.find(GOLDEN / "tiny_dino", dino_files.ANCHORS)[0])
    with pytest.raises(UsageError, match="x does not fit the model: missing blocks.1.attn.proj.bias$"):
        dino_files.to_params({k: v for k, v in state.items() if k != "blocks.1.attn.proj.bias"}, tiny.config, "x")
    with pytest.raises(UsageError, match="x does not fit the model: left over head.weight$"):
        dino_files.to_params(state | {"head.weight": np.zeros(1)}, tiny.config, "x")
    with pytest.raises(UsageError, match=r"x does not fit the model: misshapen norm.bias \(3,\) instead of \(24,\)$"):
        dino_files.to_params(state | {"norm.bias": np.zeros(3)}, tiny.config, "x")
