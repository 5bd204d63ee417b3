"""Folders of experts that are damaged or of another kind end in one line that names the file and what it is."""

import shutil
from pathlib import Path

import pytest
import tiny_experts

from mmgen_jax.experts import registry
from mmgen_jax.system.errors import UsageError

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
safetensors = pytest.importorskip("safetensors.torch")

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
PARTS = {  # expert and part -> class
    ("sam", ""): "SamModel",
    ("marigold", "unet"): "UNet2DConditionModel",
    ("marigold", "vae"): "AutoencoderKL",
    ("marigold", "text_encoder"): "CLIPTextModel",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tiny_experts.sam(folder / "sam")
    tiny_experts.marigold(folder / "marigold")
    return folder


def middle(state):
    return sorted(state)[len(state) // 2]


def lacks(state):
    del state[middle(state)]


def misshapen(state):
    state[middle(state)] = torch.zeros(1, 2, 3)


def nan(state):
    state[middle(state)].view(-1)[-1] = torch.nan


def infinite(state):
    state[middle(state)].view(-1)[0] = torch.inf


def other(state):
    state.clear()
    state["head.weight"] = torch.zeros(3)


DAMAGE = {
    lacks: "does not fit {kind}: missing {name}$",
    misshapen: r"does not fit {kind}: misshapen {name} \(1, 2, 3\) instead of \(.*\)$",
    nan: r": {name} has values that are not finite: 1 of \d+, the first at .*: nan$",
    infinite: r": {name} has values that are not finite: 1 of \d+, the first at .*: inf$",
    other: r"does not fit {kind}: missing .* and \d+ more$",
}


def refused(name: str, folder: Path, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        registry.make("mask" if name == "sam" else "normal", f"{name}:{folder}", "unused")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name, part", PARTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_weights_that_are_not_those_of_the_network_are_named(models, tmp_path, name, part, damage):
    shutil.copytree(models / name, tmp_path / "copy")
    (file,) = (tmp_path / "copy" / part).glob("*.safetensors")
    state = {key: value.clone() for key, value in safetensors.load_file(file).items()}
    message = DAMAGE[damage].format(kind=PARTS[name, part], name=middle(state))
    damage(state)
    safetensors.save_file(state, file, {"format": "pt"})
    refused(name, tmp_path / "copy", f"^{file}.*{message}")


@pytest.mark.parametrize("name, part", PARTS)
@pytest.mark.parametrize(
    "content, message",
    [(POINTER, "is a pointer of Git LFS, not the file itself"), (b"", "is empty"), (b"x" * 99, "is damaged or not a")],
)
def test_files_that_are_not_weights_are_named(models, tmp_path, name, part, content, message):
    shutil.copytree(models / name, tmp_path / "copy")
    (file,) = (tmp_path / "copy" / part).glob("*.safetensors")
    file.write_bytes(content)
    refused(name, tmp_path / "copy", f"^{file} {message}")


def test_folders_of_other_models_are_refused(models, tmp_path):
    refused("sam", Path("tests/golden/tiny_dino"), "^tests/golden/tiny_dino/.* does not fit SamModel: missing ")
    refused("sam", models / "marigold", "^.*/marigold holds no weights of a known name")
    refused("marigold", models / "sam", "^marigold '.*/sam' cannot be loaded .*model_index.json")
    shutil.copytree(models / "marigold", tmp_path / "depth")
    index = tmp_path / "depth" / "model_index.json"
    index.write_text(index.read_text().replace('"normals"', '"depth"'))
    refused("marigold", tmp_path / "depth", "^marigold '.*/depth' is a pipeline of 'depth'; allowed: of 'normals'$")


def test_weights_of_stable_normal_are_checked(tmp_path):
    (tmp_path / "hubconf.py").write_text("def StableNormal():\n    raise KeyError('conv_in\\nweight')\n")
    refused("stable-normal", tmp_path, r"^stable-normal folder '.*' cannot be loaded \('conv_in.nweight'\)$")
    file = tmp_path / "weights" / "unet" / "diffusion_pytorch_model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(POINTER)
    refused("stable-normal", tmp_path, f"^{file} is a pointer of Git LFS")
    safetensors.save_file({"conv_in.bias": torch.tensor([0, torch.nan])}, file)
    refused("stable-normal", tmp_path, f"^{file}: conv_in.bias has values that are not finite: 1 of 2")
