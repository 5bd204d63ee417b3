"""The Inception-v3 of FID with random weights against pytorch-fid and torch-fidelity: golden/make_inception.py."""

from __future__ import annotations

import numpy as np
import pytest
import random_inception
from golden_arrays import FOLDER

from mmgen_jax.frozen import inception, inception_files
from mmgen_jax.frozen.resample import resize, tensorflow_bilinear
from mmgen_jax.system.errors import UsageError


@pytest.fixture(scope="module")
def golden():
    with np.load(FOLDER / "inception.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def state():
    return random_inception.state()


@pytest.fixture(scope="module")
def network(state):
    return inception.Inception(inception_files.to_params(state, "random weights"))


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_features_places_and_logits_are_those_of_torch_fidelity(network, golden):
    found = network(golden["images"])
    for ours, name in zip(found, ("features", "mixed_6d", "logits"), strict=True):
        close(ours, golden[f"torch_fidelity/{name}"])


def test_features_are_those_of_pytorch_fid(network, golden):
    ours = inception.Inception(network.params, "pytorch-fid")(golden["images"])[0]
    close(ours, golden["pytorch_fid/features"])
    assert np.abs(ours - golden["torch_fidelity/features"]).max() > 0.1  # a protocol is a part of the figure


def test_resizing_is_that_of_torch_fidelity(golden):
    images = golden["images"].astype(np.float32)
    for side in (13, 61):
        ours = resize(images, side, side, tensorflow_bilinear)
        np.testing.assert_allclose(ours, golden[f"torch_fidelity/resized_{side}"], rtol=1e-5, atol=1e-3)


def test_resizing_is_that_of_tensorflow():
    """A ramp sampled from the corner: position i * old / new, and the last pixel beyond the last centre."""
    np.testing.assert_allclose(tensorflow_bilinear(4, 8) @ np.arange(4.0), [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])
    np.testing.assert_allclose(tensorflow_bilinear(6, 3) @ np.arange(6.0), [0, 2, 4])


def test_a_file_as_pytorch_writes_it_is_read(state, network, tmp_path):
    """With counters of training, which the published files lack, and within a wrapper."""
    torch = pytest.importorskip("torch")
    saved = {f"module.{name}": torch.from_numpy(value) for name, value in state.items()}
    torch.save(saved | {"module.Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}, tmp_path / "weights.pth")
    read = inception_files.load(tmp_path / "weights.pth", "pytorch-fid")
    assert read.protocol == "pytorch-fid"
    np.testing.assert_array_equal(read.params["fc"]["kernel"], network.params["fc"]["kernel"])
    np.testing.assert_array_equal(
        read.params["Mixed_7c"]["branch_pool"]["conv"]["bias"],
        network.params["Mixed_7c"]["branch_pool"]["conv"]["bias"],
    )


def test_a_file_of_another_network_is_told_in_one_line(state, tmp_path):
    cases = {
        "missing": ({k: v for k, v in state.items() if k != "fc.bias"}, "missing fc.bias"),
        "torchvision": (state | {"AuxLogits.fc.weight": np.zeros((1000, 768), np.float32)}, "left over AuxLogits.fc"),
        "outputs": (state | {"fc.bias": np.zeros(1000, np.float32)}, "misshapen fc.bias (1000,) instead of (1008,)"),
        "nan": (state | {"fc.bias": np.full(1008, np.nan, np.float32)}, "fc.bias has values that are not finite"),
        "variance": (
            state | {"Conv2d_1a_3x3.bn.running_var": np.full(32, -1, np.float32)},
            "negative Conv2d_1a_3x3.bn.running_var",
        ),
    }
    for name, (bad, words) in cases.items():
        with pytest.raises(UsageError) as told:
            inception_files.to_params(bad, f"{name}.pth")
        assert words in str(told.value) and f"{name}.pth" in str(told.value)
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    with pytest.raises(UsageError, match="holds no weights with a name like Conv2d_1a_3x3"):
        inception_files.load(tmp_path / "other.npz")
