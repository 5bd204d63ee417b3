"""Depth Anything V2 against the transformers library, both kinds of names, and its sizes."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mmgen_jax.frozen import depth_anything, dino_files
from mmgen_jax.frozen.depth_anything import inner_size
from mmgen_jax.frozen.resample import bicubic, bilinear, resize
from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import tensors

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = GOLDEN / "tiny_depth_anything"

network = jax.jit(lambda model, pixels: model.network(pixels))


@pytest.fixture(scope="module")
def tiny():
    return depth_anything.load(TINY)


def test_stored_outputs_of_transformers(tiny):
    golden = np.load(GOLDEN / "components.npz")
    found = network(tiny, golden["depth_anything/pixels"])
    np.testing.assert_allclose(found, golden["depth_anything/depth"], atol=1e-5)


@pytest.mark.parametrize("grid", [(3, 5), (5, 4)])
def test_parity_with_transformers(tiny, grid, rng):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs = transformers.DepthAnythingForDepthEstimation.from_pretrained(TINY).eval()
    pixels = rng.normal(size=(2, 14 * grid[0], 14 * grid[1], 3)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(pixels).permute(0, 3, 1, 2)).predicted_depth.numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(network(tiny, pixels), expected, atol=2e-5)


def original_names(state):
    """transformers' names -> those of the first release, written down from its source."""
    renamed = {}
    for name, value in state.items():
        part = name.split(".")
        if part[0] == "backbone":
            continue
        if part[:3] == ["neck", "reassemble_stage", "layers"]:
            kind = {"projection": "projects", "resize": "resize_layers"}[part[4]]
            name = f"depth_head.{kind}.{part[3]}.{part[5]}"
        elif part[:2] == ["neck", "convs"]:
            name = f"depth_head.scratch.layer{int(part[2]) + 1}_rn.weight"
        elif part[:3] == ["neck", "fusion_stage", "layers"]:
            unit = f"depth_head.scratch.refinenet{4 - int(part[3])}"
            if part[4] == "projection":
                name = f"{unit}.out_conv.{part[5]}"
            else:
                name = f"{unit}.resConfUnit{part[4][-1]}.conv{part[5][-1]}.{part[6]}"
        else:
            layer = {"conv1": "output_conv1", "conv2": "output_conv2.0", "conv3": "output_conv2.2"}[part[1]]
            name = f"depth_head.scratch.{layer}.{part[2]}"
        renamed[name] = value
    backbone = {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}
    return renamed | {f"pretrained.{n}": v for n, v in dino_files.official(backbone).items()}


def test_original_names(tiny, tmp_path):
    state = {name: np.asarray(value) for name, value in tensors.read(TINY / "model.safetensors").items()}
    np.savez(tmp_path / "depth.npz", **original_names(state))
    stored = {"backbone_config": {"num_attention_heads": 2, "out_indices": [1, 2, 3, 4]}}
    (tmp_path / "config.json").write_text(json.dumps(stored))
    found = depth_anything.load(tmp_path / "depth.npz")
    jax.tree.map(np.testing.assert_array_equal, (found.backbone, found.head), (tiny.backbone, tiny.head))


def test_images_are_resized_as_in_the_original():
    assert inner_size(518, 518, 518, 14) == (518, 518)
    assert inner_size(256, 256, 518, 14) == (518, 518)
    assert inner_size(480, 640, 518, 14) == (518, 686)
    assert inner_size(100, 50, 56, 14) == (112, 56)


def test_depth_of_images_of_any_size(tiny, rng):
    model = dataclasses.replace(tiny, short_side=56)
    rgb = rng.uniform(-1, 1, (1, 40, 60, 3)).astype(np.float32)
    found = jax.jit(lambda m, x: m(x))(model, rgb)
    assert found.shape == (1, 40, 60) and found.dtype == jnp.float32
    pixels = ((rgb + 1) / 2 - np.float32([0.485, 0.456, 0.406])) / np.float32([0.229, 0.224, 0.225])
    expected = network(model, resize(pixels, 56, 84, bicubic))
    np.testing.assert_allclose(found, resize(expected[..., None], 40, 60, bilinear)[..., 0], atol=1e-5)


@pytest.mark.parametrize(
    "width, depth, heads, necks, fusion, count",
    [  # the numbers of parameters of the three releases
        (384, 12, 6, (48, 96, 192, 384), 64, 24_785_089),
        (768, 12, 12, (96, 192, 384, 768), 128, 97_470_785),
        (1024, 24, 16, (256, 512, 1024, 1024), 256, 335_315_649),
    ],
)
def test_sizes_of_the_releases(width, depth, heads, necks, fusion, count):
    config = depth_anything.DinoConfig(width, depth, heads, 14, 4 * width)
    head = depth_anything.DPTConfig(width, necks, fusion, 32)
    shapes = dino_files.abstract_params(config), depth_anything.abstract_head(head)
    found = sum(int(np.prod(s.shape)) for s in jax.tree.leaves(shapes)) + width  # and the mask token
    assert found == count


def test_what_does_not_fit_is_named(tmp_path):
    stored = json.loads((TINY / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((TINY / "model.safetensors").read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(stored | {"depth_estimation_type": "metric"}))
    with pytest.raises(UsageError, match="predicts metric depth; allowed: relative"):
        depth_anything.load(tmp_path)
    with pytest.raises(UsageError, match="holds no weights with a name like pretrained.patch_embed.proj.weight or"):
        depth_anything.load(GOLDEN / "tiny_dino")
