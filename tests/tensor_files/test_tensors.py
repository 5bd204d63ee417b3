"""Tests that weight files of all kinds are read as flat mappings."""

import json

import ml_dtypes
import numpy as np
import pytest
from annotations import unchecked
from safetensors.numpy import save_file

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import tensors


@pytest.fixture
def arrays(rng):
    return {
        "a.weight": rng.normal(size=(3, 4)).astype(np.float32),
        "b": rng.normal(size=(5,)).astype(np.float16),
        "c": np.arange(6).reshape(2, 3),
        "s": np.asarray(2.5),
        "e": np.zeros((0, 3), np.float32),
        "t": np.asarray([True, False]),
    }


def check(found, arrays):
    assert set(found) == set(arrays) and len(found) == len(arrays)
    for name, value in arrays.items():
        assert name in found
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype


def refused(path, text):
    with unchecked(), pytest.raises(UsageError, match=text) as caught:  # damaged files hold values of any type
        dict(tensors.read(path).items())
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_safetensors(tmp_path, arrays):
    path = tmp_path / "x.safetensors"
    arrays["bf"] = np.arange(6).astype(ml_dtypes.bfloat16)
    save_file(arrays, path, metadata={"format": "pt"})
    found = tensors.read(path)
    check(found, arrays)
    assert not found["a.weight"].flags.owndata  # a view of the file


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, arrays, save):
    save(tmp_path / "x.npz", **arrays)
    check(tensors.read(tmp_path / "x.npz"), arrays)


@pytest.mark.parametrize("suffix", tensors.TORCH)
@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s, "opt": {}}]
)
def test_torch(tmp_path, arrays, suffix, wrap):
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
    torch.save(wrap(state), tmp_path / f"x{suffix}")
    check(tensors.read(tmp_path / f"x{suffix}"), arrays)


def test_what_holds_no_weights_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for value in ([torch.ones(2)], {}, {"a": 1}, {"state_dict": {"a": [1]}}, {3: torch.ones(2)}):
        torch.save(value, tmp_path / "x.pt")
        refused(tmp_path / "x.pt", "holds no weights")


def test_missing_and_unknown_files(tmp_path):
    for suffix in tensors.SUFFIXES:
        refused(tmp_path / f"x{suffix}", "no such file")
    refused(tmp_path / "x.ckpt", "suffix '.ckpt'; allowed: .safetensors, .npz, .pt, .pth, .bin")


@pytest.mark.parametrize(
    "header, text",
    [
        ({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, "a does not fit"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [4, 16]}}, "a does not fit"),
        ({"a": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}, "a does not fit"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}}, "a does not fit"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}, "a does not fit"),
        ({"a": {"dtype": "F32", "shape": [0, 10**30], "data_offsets": [0, 0]}}, "damaged"),
        ({"a": {"dtype": "F9", "shape": [2], "data_offsets": [0, 8]}}, "type 'F9'"),
        ({"a": {"dtype": "F32"}}, "damaged"),
        ({"a": 3}, "damaged"),
        ([1], "damaged"),
    ],
)
def test_damaged_safetensors(tmp_path, header, text):
    encoded = json.dumps(header).encode()
    (tmp_path / "x.safetensors").write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(12))
    refused(tmp_path / "x.safetensors", text)


def test_damaged_files(tmp_path, arrays):
    for data, text in ((b"\x01", "damaged"), (b"\xff" * 9, "header of"), (b"[" * 100_000, "damaged"), (b"", "empty")):
        path = tmp_path / "x.safetensors"
        path.write_bytes((len(data).to_bytes(8, "little") if data[:1] == b"[" else b"") + data)
        refused(path, text)
    path = tmp_path / "x.npz"
    path.write_bytes(b"no zip")
    refused(path, "damaged or not an .npz")
    np.savez(path, a=np.asarray([object()]))
    refused(path, "entry a of .* is damaged or not an array")
    with path.open("wb") as file:
        np.save(file, np.ones(2))
    refused(path, "a single array")
    np.savez_compressed(path, a=np.arange(1000))
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    refused(path, "damaged")
