"""Tests that weight files of all kinds are read as flat mappings."""

import json
import os
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from annotations import unchecked
from etils import epath
from safetensors.numpy import save_file

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import hub, tensors, torch_write


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


@pytest.mark.parametrize("suffix", [*tensors.TORCH, ".PT", ".Ckpt"])
def test_torch(tmp_path, arrays, suffix):
    torch_write.write(tmp_path / f"x{suffix}", arrays)
    check(tensors.read(tmp_path / f"x{suffix}"), arrays)


@pytest.mark.parametrize("suffix", [".SAFETENSORS", ".bin", ".ckpt", ".pt"])
def test_safetensors_under_other_names(tmp_path, arrays, suffix):
    save_file(arrays, tmp_path / f"x{suffix}")
    check(tensors.read(tmp_path / f"x{suffix}"), arrays)


def test_npz_of_any_order_of_bytes_and_axes(tmp_path):
    arrays = {
        "half": np.arange(6).astype(ml_dtypes.bfloat16),
        "big": np.arange(6.0, dtype=">f4"),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    np.savez(tmp_path / "X.NPZ.npz", **arrays)
    check(tensors.read(tmp_path / "X.NPZ.npz"), arrays)


def test_missing_and_unknown_files(tmp_path):
    for suffix in tensors.SUFFIXES:
        refused(tmp_path / f"x{suffix}", "no such file")
    refused(tmp_path / "x.onnx", "suffix '.onnx'; allowed: .safetensors, .npz, .pt, .pth, .bin, .ckpt, .index.json")


# ---- what is not a file of weights ----


@pytest.mark.parametrize("suffix", tensors.SUFFIXES)
def test_what_is_no_file_is_named_at_once(tmp_path, suffix):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:7ea9\nsize 11000000000\n"
    (tmp_path / f"pointer{suffix}").write_bytes(pointer)
    refused(tmp_path / f"pointer{suffix}", "is a pointer of Git LFS, not the file itself; fetch it with: git lfs pull$")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    refused(tmp_path / f"pipe{suffix}", "is a FIFO; allowed: a file")
    (tmp_path / f"device{suffix}").symlink_to("/dev/zero")
    refused(tmp_path / f"device{suffix}", "is a device; allowed: a file")
    (tmp_path / f"folder{suffix}").mkdir()
    refused(tmp_path / f"folder{suffix}", "is a folder; allowed: a file")
    (tmp_path / f"gone{suffix}").symlink_to(tmp_path / "nowhere")
    refused(tmp_path / f"gone{suffix}", "is a link that leads nowhere; allowed: a file")
    for url in (f"https://host/x{suffix}", f"gs://bucket/x{suffix}", f"file:///x{suffix}", f"hf://org/x{suffix}"):
        refused(url, "is not on this machine; copy it here")


# ---- several files with an index ----


def parts(folder, arrays, save, suffix, **changes):
    """Two files and their index, as the hub's libraries write them."""
    names = sorted(arrays)
    files = {name: f"model-0000{1 + (i % 2)}-of-00002{suffix}" for i, name in enumerate(names)}
    for file in set(files.values()):
        save({name: arrays[name] for name in names if files[name] == file}, folder / file)
    index = folder / f"model{suffix}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": files | changes}))
    return index


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_parts_are_one_file(tmp_path, arrays, suffix):
    save = save_file if suffix == ".safetensors" else lambda state, path: torch_write.write(path, state)
    index = parts(tmp_path, arrays, save, suffix)
    check(tensors.read(index), arrays)
    assert hub.weights_file(epath.Path(tmp_path)) == index
    refused(
        tmp_path / f"model-00002-of-00002{suffix}", "is part 2 of 2; give the folder, or the file .*index.json in it"
    )


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"b": "model-00003-of-00003.safetensors"}, "model-00003-of-00003.safetensors: no such file"),
        ({"new": "model-00001-of-00002.safetensors"}, "has no new, which model.safetensors.index.json says"),
        ({"b": "../model-00001-of-00002.safetensors"}, "names something other than files beside it"),
        ({"b": "/etc/passwd"}, "names something other than files beside it"),
        ({"b": 3}, "names something other than files beside it"),
        ({"b": ".."}, "is a folder; allowed: a file"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path, arrays, changes, text):
    index = parts(tmp_path, arrays, save_file, ".safetensors", **changes)
    with pytest.raises(UsageError, match=text):
        tensors.read(index)


@pytest.mark.parametrize("data", ["{", "[1]", "{}", '{"weight_map": []}', "[" * 100_000, '{"weight_map": {"a": {}}}'])
def test_damaged_indices(tmp_path, data):
    (tmp_path / "x.index.json").write_text(data)
    refused(tmp_path / "x.index.json", "is damaged or not an index of weights")


# ---- damaged and hostile files ----


def npy(header: bytes, data: bytes = bytes(16), version=b"\x01\x00") -> bytes:
    size = len(header).to_bytes(2 if version[:1] == b"\x01" else 4, "little")
    return b"\x93NUMPY" + version + size + header + data


def described(descr="'<f4'", shape="(4,)", order="False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()


@pytest.mark.parametrize(
    "member",
    [
        npy(described(shape="(1099511627776,)")),  # 4 TB
        npy(described(shape=f"({2**64},)")),
        npy(described(shape=f"({10**300}, 0)")),
        npy(described(shape="(-4,)")),
        npy(described(shape="(-2, -2)")),
        npy(described(shape="(2.0, 2)")),
        npy(described(shape="'4'")),
        npy(described(shape="(True, 4)")),
        npy(described(shape="(" * 400)),
        npy(described(shape="(" * 4000 + ")" * 4000)),
        npy(described(shape="(1,) * 40")),
        npy(described(shape=str((1,) * 80)), bytes(4)),
        npy(described(descr="'|O'")),
        npy(described(descr="'<V0'"), b""),
        npy(described(descr="'|S0'"), b""),
        npy(described(descr="'nonsense'")),
        npy(described(descr="[('a', '<f4')]")),
        npy(described(order="'maybe'")),
        npy(described(), bytes(15)),
        npy(described(), bytes(17)),
        npy(b"{"),
        npy(b"\xff\xfe"),
        npy(b"[" * 60_000),
        npy(b"__import__('os').system('touch ran')"),
        npy(described(), version=b"\x03\x00"),
        npy(described(), version=b"\x09\x00"),
        npy(b" " * 100_000 + described(), version=b"\x02\x00"),
        b"",
        b"\x93NUM",
        b"text",
        bytes(100),
    ],
)
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_headers_of_npz_are_not_believed(tmp_path, member, compression):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", compression) as archive:
        archive.writestr("a.npy", member)
    tracemalloc.start()
    refused(tmp_path / "x.npz", "entry a of .* is damaged or not an array")
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


def test_an_entry_of_npz_that_claims_more_than_it_can_hold(tmp_path):
    header = npy(described(shape="(250000000,)"), b"")
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", header)
    data = (tmp_path / "x.npz").read_bytes()
    claimed, size = (len(header) + 10**9).to_bytes(4, "little"), len(header).to_bytes(4, "little")
    (tmp_path / "x.npz").write_bytes(data.replace(size, claimed))
    refused(tmp_path / "x.npz", "entry a of .*it claims 1000000074 bytes, stored in 67")


def test_names_that_move_the_cursor_are_shown_escaped(tmp_path):
    hostile = "a\n\x1b]0;owned\x07\u202eb\r"
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{hostile}.npy", b"")
    with pytest.raises(UsageError) as caught:
        dict(tensors.read(path))
    assert str(caught.value).isprintable() and r"\x1b]0;owned\x07\u202eb" in str(caught.value)
    for name in (hostile, f"{hostile}.pt"):
        with pytest.raises(UsageError) as caught:
            tensors.read(tmp_path / name)
        assert str(caught.value).isprintable()


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
    refused(path, "entry a of .* is damaged or not an array .it holds values of type object")
    with path.open("wb") as file:
        np.save(file, np.ones(2))
    refused(path, "a single array")
    np.savez_compressed(path, a=np.arange(1000))
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)
    refused(path, "damaged")
