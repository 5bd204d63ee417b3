"""The reader of PyTorch's files: the same values as torch.load, and nothing but values from a hostile file."""

import argparse
import builtins
import collections
import datetime
import enum
import functools
import os
import pickle
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from annotations import unchecked

from mmgen_jax.system.errors import UsageError
from mmgen_jax.tensor_files import local, torch_file, torch_write
from mmgen_jax.tensor_files.torch_pickle import Namespace, Unknown

GOLDEN = Path(__file__).parents[1] / "golden"


def pack(path, data, storages=(), **members):
    """A file in PyTorch's format around a pickle of the test's choice."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data)
        for name, value in {"byteorder": b"little", **members}.items():
            archive.writestr(f"x/{name}", value)
        for i, storage in enumerate(storages):
            archive.writestr(f"x/data/{i}", np.asarray(storage).tobytes())
    return path


def tensor(offset, size, stride, count=12, kind=b"FloatStorage", key=b"0"):
    """Instructions that make one tensor of protocol 2."""
    reference = b"(U\x07storagectorch\n" + kind + b"\nU" + bytes([len(key)]) + key + b"U\x03cpu" + long(count) + b"tQ"
    shape = b"".join(b"(" + b"".join(map(long, values)) + b"t" for values in (size, stride))
    head = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return b"\x80\x02" + head + reference.replace(b"U", b"\x8c") + long(offset) + shape + b"\x89}tR."


def long(value):
    return b"\x8a" + bytes([len(pickle.encode_long(value))]) + pickle.encode_long(value)


def refused(path, text):
    with unchecked(), pytest.raises(UsageError, match=text) as caught:  # damaged files hold values of any type
        torch_file.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_golden_file_has_the_golden_arrays():
    stored = torch_file.read(GOLDEN / "mmgen_tiny.pt")
    with np.load(GOLDEN / "mmgen_tiny.npz") as arrays:
        expected = {name[2:]: arrays[name] for name in arrays.files if name.startswith("w/")}
    for part in ("model", "ema"):
        assert stored[part].keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(stored[part][name], value)
    assert isinstance(stored["args"], Namespace) and stored["args"]["num_classes"] == 10
    assert stored["steps"] == 600_000


def test_every_kind_of_tensor_and_value_reads_as_torch_wrote_it(tmp_path):
    torch = pytest.importorskip("torch")
    a = torch.arange(24.0).reshape(4, 6)
    tensors = {
        "plain": a,
        "transposed": a.t(),
        "sliced": a[1:, 2:5:2],
        "expanded": torch.ones(3).expand(4, 3),
        "parameter": torch.nn.Parameter(a),
        "empty": torch.zeros(0, 5),
        "scalar": torch.tensor(3.0),
        **{str(d): a.to(d) for d in (torch.float64, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool)},
        "complex": torch.view_as_complex(a.clone().reshape(4, 3, 2)),
        "convolution": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
    }
    plain = {"n": None, "i": -3, "l": 2**40, "huge": 10**30, "f": 2.5, "t": (1, True), "list": [1, [2]]}
    optimizer = torch.optim.AdamW([torch.nn.Parameter(a.clone())])
    optimizer.param_groups[0]["params"][0].grad = torch.ones_like(a)
    optimizer.step()
    value = {
        "tensors": tensors,
        "bf16": a.bfloat16(),
        "plain": plain,
        "set": {1, "a"},
        "args": argparse.Namespace(a=1, b=[2]),
        "size": a.shape,
        "dtype": torch.float16,
        "device": torch.device("cuda", 1),
        "module": torch.nn.Linear(2, 3).state_dict(),
        "opt": optimizer.state_dict(),
    }
    torch.save(value, tmp_path / "x.pt")
    read = torch_file.read(tmp_path / "x.pt")
    for name, expected in tensors.items():
        np.testing.assert_array_equal(read["tensors"][name], expected.detach().numpy(), err_msg=name)
        assert not read["tensors"][name].flags.writeable
    assert read["bf16"].dtype == ml_dtypes.bfloat16 and read["bf16"].tolist() == a.tolist()
    assert read["plain"] == plain and read["set"] == {1, "a"} and read["size"] == (4, 6)
    assert read["args"] == {"a": 1, "b": [2]} and isinstance(read["args"], Namespace)
    assert read["dtype"] == np.float16 and read["device"] == "cuda:1"
    assert list(read["module"]) == ["weight", "bias"]
    np.testing.assert_array_equal(read["opt"]["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert read["opt"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_shared_storages_are_views_of_one_map(tmp_path):
    torch = pytest.importorskip("torch")
    a = torch.arange(6.0)
    torch.save({"a": a, "b": a[2:]}, tmp_path / "x.pt")
    read = torch_file.read(tmp_path / "x.pt")
    assert np.shares_memory(read["a"], read["b"])
    local.release(read["a"])
    assert read["b"].tolist() == [2, 3, 4, 5]  # read again


class Config:
    """Such as OmegaConf's: a class that is not known where the file is read."""

    def __init__(self, **values):
        self.__dict__.update(values)


class Entries(dict):
    """A mapping of a class of its own."""


class Level(enum.Enum):
    HIGH = 1


HARMLESS = {
    "numbers of NumPy": ({"f": np.float64(2.5), "i": np.int64(3), "b": np.bool_(True), "h": np.float16(0.5)}, None),
    "a tensor with attributes": ("attributes", None),
    "a path": (Path("/a/b"), "pathlib"),
    "a defaultdict": (collections.defaultdict(list, {"a": [1]}), {"a": [1]}),
    "a counter": (collections.Counter("aab"), "collections.Counter"),
    "a deque": (collections.deque([1, 2], 3), "collections.deque"),
    "an ordered dict": (collections.OrderedDict(a=1), {"a": 1}),
    "an object": (Config(a=1, b=Config(c=[2])), "Config"),
    "a mapping": (Entries(a=1), "Entries"),
    "an enum": (Level.HIGH, "Level"),
    "a time": (datetime.datetime(2024, 1, 1), "datetime.datetime"),
    "a partial": (functools.partial(max, 1), "functools.partial"),
    "a frozen set": (frozenset((1, 2)), "builtins.frozenset"),
    "an array of NumPy": (np.arange(3), "numpy"),
    "a state of random numbers": (np.random.default_rng(0), "numpy.random"),
    "a class": (Config, "Config"),
    "keys of tuples": ({(0, 1): 2}, {(0, 1): 2}),
}


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("kind", HARMLESS)
def test_objects_beside_the_weights_are_only_named(tmp_path, kind, protocol):
    torch = pytest.importorskip("torch")
    value, expected = HARMLESS[kind]
    weight = torch.nn.Parameter(torch.arange(3.0))
    if isinstance(value, str):
        weight.note, value = "mine", 3
    torch.save({"w": weight, "x": value, "last": 1}, tmp_path / "x.pt", pickle_protocol=protocol)
    read = torch_file.read(tmp_path / "x.pt")
    assert read["w"].tolist() == [0, 1, 2] and read["last"] == 1
    if isinstance(expected, str):
        assert isinstance(read["x"], Unknown) and expected in read["x"].name
    else:
        assert read["x"] == (value if expected is None else expected)


def test_numbers_of_numpy_of_another_machine_are_refused(tmp_path):
    data = b"\x80\x02cnumpy\ndtype\n(\x8c\x02f8\x89\x88tR(K\x03\x8c\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb."
    refused(pack(tmp_path / "x.pt", data), "not little-endian")
    for kind in (b"O8", b"S3", b"V4"):
        data = b"\x80\x02cnumpy\ndtype\n(\x8c\x02" + kind + b"\x89\x88tR."
        refused(pack(tmp_path / "x.pt", data), "not one of numbers")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "function, name",
    [(os.system, "system"), (builtins.eval, "builtin.*eval"), (getattr, "builtin.*getattr"), (pickle.loads, "loads")],
)
def test_calls_are_refused_by_name_and_not_made(tmp_path, monkeypatch, protocol, function, name):
    monkeypatch.chdir(tmp_path)

    class Hostile:
        def __reduce__(self):
            return function, ("touch ran",) if function is os.system else ("open('ran', 'w')",)

    path = pack("x.pt", pickle.dumps({"model": {"a": Hostile()}}, protocol))
    refused(path, f"wants to call .*{name}.*refused")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "data, text",
    [
        (b"\x80\x02carray\narray\n)R.", "wants to call array.array"),
        (b"\x80\x02carray\narray\n)\x81.", "wants to call array.array"),
        (b"\x80\x04\x8c\x05torch\x8c\x0aNo.storage\x93)R.", "wants to call torch.No.storage"),
        (b"\x80\x04\x8c\x06os\nsys\x8c\x06system\x93)R.", "wants to call"),
        (b"\x80\x02csubprocess\nPopen\n)R.", "wants to call subprocess.Popen"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.", "wants to call os.system"),
        (b"\x80\x04K\x01K\x02\x93.", "without a name"),
        (b"\x80\x02K\x01)R.", "not a function"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "not a function"),
        (b"\x80\x02ctorch\nfloat32\n}b.", "state of something other"),
        (b"\x80\x02ccollections\nOrderedDict\n}(U\x01aK\x01ub.".replace(b"U", b"\x8c"), "state of something other"),
        (b"\x80\x02ccollections\nOrderedDict\n(K\x01K\x02tR.", "damaged|cannot be read"),
        (b"\x80\x02(ios\nsystem\n.", "instruction INST"),
        (b"\x80\x02\x82\x01.", "instruction EXT1"),
        (b"\x80\x02K\x01Q.", "something other than a storage"),
        (b"\x80\x02h\x05.", "before there is one"),
        (b"\x80\x02}]K\x01s.", "key of type list"),
        (b"\x80\x02]K\x01K\x02s.", "something other than a dictionary"),
        (b"\x80\x02K\x01K\x02a.", "something other than a list"),
        (b"\x80\x02.", "cannot be read"),
        (b"\x80\x02K", "cannot be read"),
        (b"\x80\x02K\x01", "cannot be read"),
        (b"\x80\x02R.", "cannot be read"),
        (b"\x80\x02t.", "cannot be read"),
        (b"", "cannot be read"),
        (b"\xff\xff", "cannot be read"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "cannot be read"),
        (tensor(0, (2,), (1,)).replace(b"torch\nFloatStorage", b"collections\nOrderedDict"), "no type"),
    ],
)  # fmt: skip
def test_damaged_and_hostile_pickles_end_in_one_line(tmp_path, data, text):
    refused(pack(tmp_path / "x.pt", data, [np.zeros(12, np.float32)]), text)


def test_nesting_does_not_exhaust_the_stack(tmp_path):
    deep = 200_000
    lists = torch_file.read(pack(tmp_path / "x.pt", b"\x80\x02" + b"]" * deep + b"a" * (deep - 1) + b"."))
    assert isinstance(lists, list)
    tuples = b"\x80\x02}" + b")" + b"\x85" * deep + b"K\x01s."
    refused(pack(tmp_path / "x.pt", tuples), "key of type tuple")
    for called in (b"ctorch\ndevice\n", b"ctorch\nSize\n", b"c__builtin__\nset\n"):
        refused(pack(tmp_path / "x.pt", b"\x80\x02" + called + b")" + b"\x85" * deep + b"\x85R."), "cannot be read")


@pytest.mark.parametrize(
    "arguments, text",
    [
        (dict(offset=0, size=(13,), stride=(1,)), "element 12 of a storage of 12"),
        (dict(offset=9, size=(2, 2), stride=(2, 1)), "element 12 of a storage of 12"),
        (dict(offset=2**62, size=(1,), stride=(1,)), "of a storage of 12"),
        (dict(offset=-1, size=(1,), stride=(1,)), "offset is not a tuple of natural"),
        (dict(offset=4, size=(2,), stride=(-4,)), "stride is not a tuple of natural"),
        (dict(offset=0, size=(-2,), stride=(1,)), "size is not a tuple of natural"),
        (dict(offset=0, size=(2,), stride=(2**70,)), "of a storage of 12"),
        (dict(offset=0, size=(2**70,), stride=(0,)), "larger than the whole file"),
        (dict(offset=0, size=(0, 2**70), stride=(0, 0)), "larger than the whole file"),
        (dict(offset=0, size=(2**20, 2**20), stride=(0, 0)), "larger than the whole file"),
        (dict(offset=0, size=(2, 2), stride=(1,)), "2 sizes and 1 strides"),
        (dict(offset=0, size=(1,) * 40, stride=(1,) * 40), "40 sizes"),
        (dict(offset=0, size=(2,), stride=(1,), count=13), "fewer than 13 x float32"),
        (dict(offset=0, size=(2,), stride=(1,), count=2**70), "fewer than"),
        (dict(offset=0, size=(2,), stride=(1,), count=-1), "natural"),
        (dict(offset=0, size=(2,), stride=(1,), key=b"7"), "storage 7 is missing"),
        (dict(offset=0, size=(2,), stride=(1,), kind=b"QInt8Storage"), "no type"),
    ],
)  # fmt: skip
def test_no_tensor_reaches_outside_its_storage(tmp_path, arguments, text):
    refused(pack(tmp_path / "x.pt", tensor(**arguments), [np.zeros(12, np.float32)]), text)


def test_strides_that_nothing_steps_over_do_not_matter(tmp_path):
    path = pack(tmp_path / "x.pt", tensor(11, (1, 1), (2**70, 5)), [np.arange(12, dtype=np.float32)])
    assert torch_file.read(path).tolist() == [[11]]


def test_other_files_are_refused(tmp_path):
    good = (GOLDEN / "mmgen_tiny.pt").read_bytes()
    path = tmp_path / "x.pt"
    refused(path, "no such file")
    for data, text in [
        (b"", "is empty"),
        (good[: len(good) // 2], "cannot be read"),
        (good[:-30], "cannot be read"),
        (b"PK\x03\x04 no zip", "cannot be read"),
        (b"text", "not a file of torch.save"),
        (pickle.dumps({}, 2), "before PyTorch 1.6"),
    ]:
        path.write_bytes(data)
        refused(path, text)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\x80\x02}.")
    refused(path, "x/data.pkl is compressed")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/other", b"")
    refused(path, "no data.pkl")
    refused(pack(path, b"\x80\x02}.", byteorder=b"big"), "not little-endian")


def test_cut_file_of_every_length_ends_in_one_line(tmp_path, rng):
    good = pack(tmp_path / "good.pt", tensor(0, (3, 4), (4, 1)), [np.arange(12, dtype=np.float32)]).read_bytes()
    for length in range(1, len(good), 7):
        (tmp_path / "x.pt").write_bytes(good[:length])
        refused(tmp_path / "x.pt", "cannot be read|not a file of torch.save")


def test_flipped_bytes_make_values_or_one_line(tmp_path, rng):
    good = pack(tmp_path / "good.pt", tensor(0, (3, 4), (4, 1)), [np.arange(12, dtype=np.float32)]).read_bytes()
    for _ in range(500):
        data = bytearray(good)
        for position in rng.integers(0, len(good), 3):
            data[position] = rng.integers(256)
        (tmp_path / "x.pt").write_bytes(data)
        try:
            torch_file.read(tmp_path / "x.pt")
        except UsageError:
            pass


def test_legacy_files_of_torch_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "x.pt", "before PyTorch 1.6")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    assert torch_file.read(tmp_path / "x.pt").name == "torch.nn.modules.linear.Linear"


# ---- the writer ----


def test_torch_reads_what_is_written(tmp_path, rng):
    torch = pytest.importorskip("torch")
    arrays = {
        "plain": rng.normal(size=(3, 4)).astype(np.float32),
        "transposed": rng.normal(size=(3, 4)).T,
        "scalar": np.asarray(2.5, np.float32),
        "empty": np.zeros((0, 3)),
        **{kind: np.arange(6).astype(kind) for kind in ("float16", "int64", "uint8", "bool", "complex64")},
    }
    plain = {"none": None, "flag": False, "n": -3, "large": 2**40, "f": 0.1, "t": (1, ("ä",)), "list": [1, []], 7: {}}
    value = {"arrays": arrays, "bf16": np.arange(6).astype(ml_dtypes.bfloat16), **plain}
    torch_write.write(tmp_path / "x.pt", value)
    read = torch.load(tmp_path / "x.pt", weights_only=True, mmap=True)
    for name, expected in arrays.items():
        assert read["arrays"][name].dtype == torch.from_numpy(expected.copy()).dtype
        np.testing.assert_array_equal(read["arrays"][name].numpy(), expected)
    assert read["bf16"].dtype == torch.bfloat16 and read["bf16"].tolist() == list(range(6))
    assert {name: read[name] for name in plain} == plain
    again = torch_file.read(tmp_path / "x.pt")
    np.testing.assert_array_equal(again["arrays"]["transposed"], arrays["transposed"])
    assert again["arrays"]["plain"].ctypes.data % torch_write.ALIGNMENT == 0


def test_a_namespace_is_written_as_one(tmp_path):
    torch = pytest.importorskip("torch")
    torch_write.write(tmp_path / "x.pt", {"args": Namespace(a=1)})
    assert torch.load(tmp_path / "x.pt", weights_only=False)["args"] == argparse.Namespace(a=1)
    with torch.serialization.safe_globals([argparse.Namespace]):
        assert torch.load(tmp_path / "x.pt", weights_only=True)["args"] == argparse.Namespace(a=1)


def test_a_value_that_cannot_be_written_leaves_no_file(tmp_path):
    with pytest.raises(TypeError, match="type object"):
        torch_write.write(tmp_path / "x.pt", {"a": np.ones(2), "b": object()})
    assert not list(tmp_path.iterdir())
